worker_processes 2
listen ENV.fetch("APP_PORT")
