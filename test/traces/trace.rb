# Writes one stack trace of each kind, each behind a line `== name`, and dies of the last one.
require "logger"

class OwnError < StandardError; end

def inner
  raise ArgumentError, "the cause"
end

def caused
  inner
rescue ArgumentError
  raise "the effect"
end

def thrice
  caused
rescue RuntimeError
  raise OwnError, "the end"
end

def lines
  raise "2 fields are wrong\n  name: missing\n  age: no number"
end

def loose
  raise "first\nsecond\n\nlast"
end

def unknown
  [1, 2].each { |number| number.frst }
end

def deep(number)
  number.zero? ? inner : deep(number - 1)
end

def error_of(call)
  send(*call)
rescue StandardError => error
  error
end

def mark(name)
  $stderr.write("== #{name}\n")
end

def whole(text)
  $stderr.write(text.end_with?("\n") ? text : "#{text}\n")
end

calls = [[:inner], [:caused], [:thrice], [:lines], [:loose], [:unknown], [:deep, 20]]
calls.each do |call|
  mark("top #{call[0]}")
  whole(error_of(call).full_message(highlight: false, order: :top))
  mark("bottom #{call[0]}")
  whole(error_of(call).full_message(highlight: false, order: :bottom))
end
mark("coloured")
whole(error_of([:inner]).full_message(highlight: true, order: :top))
logger = Logger.new($stderr)
mark("logged by Logger")
logger.error(error_of([:deep, 3]))
mark("logged with full_message")
logger.error(error_of([:caused]).full_message(highlight: false, order: :top).chomp)
mark("thread, logged")
Thread.new { thrice }.join rescue nil
mark("dies")
thrice
