# As Rails makes it: PORT is APP_PORT here.
threads 5, 5
port ENV.fetch("PORT", 3000)
