#!/bin/sh
# The same as a CGI program.
if [ "$REQUEST_URI" = /slow ]; then
  printf . >>"$ARRIVED"
  sleep 1.2
fi
printf 'Content-Type: text/plain\n\ndone'
