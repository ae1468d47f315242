# In place of Rails': /slow takes half a second.
run(lambda do |env|
  if env["PATH_INFO"] == "/slow"
    puts "slow"
    $stdout.flush
    sleep 0.5
  end
  [200, { "content-type" => "text/plain" }, ["hello\n"]]
end)
