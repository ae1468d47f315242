# The same for Ruby.
run(lambda do |env|
  if env["PATH_INFO"] == "/slow"
    File.write("arrived", ".", mode: "a")
    sleep 1.2
  end
  [200, { "content-type" => "text/plain" }, ["done"]]
end)
