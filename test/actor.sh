# A process of random.test.ts: sh actor.sh NAME LINES END ASKED DRAIN HEIRS [PORT]
# Writes into the file `order` when it is asked and when it ends.
# Starts HEIRS children, listens on PORT, says LINES numbered lines to both streams, ends by END (a code or a signal)
# when there is a file NAME.go, and by ASKED after DRAIN seconds when it is asked to stop; ASKED may be
# "deaf". Before it ends it leaves in NAME.count how many lines it has written.
name=$1 lines=$2 end=$3 asked=$4 drain=$5 heirs=$6 port=${7-}
said=0 stop=

say() {
  i=0
  while [ $i -lt "$1" ]; do
    i=$((i + 1)) said=$((said + 1))
    echo $said
    echo $said >&2
  done
}

end() {
  say "$lines"
  echo $said >"$name.count"
  echo "$name ended" >>order
  case $1 in
  [0-9]*) exit "$1" ;;
  *) ulimit -c 0; trap - "$1" 2>/dev/null; kill -"$1" $$ ;;
  esac
}

trap : HUP USR1 USR2
if [ "$asked" = deaf ]; then trap '' TERM; else trap 'stop=1; echo "$name asked" >>order' TERM; fi
while [ "$heirs" -gt 0 ]; do
  heirs=$((heirs - 1))
  sleep 1008 >/dev/null 2>&1 &
done
if [ "$port" ]; then
  busybox httpd -f -p "127.0.0.1:$port" >/dev/null 2>&1 &
  until grep -q "$(printf ':%04X 00000000:0000 0A' "$port")" /proc/net/tcp; do sleep 0.01; done
fi
say "$lines"
>"$name.up"
while :; do
  [ -e "$name.go" ] && end "$end"
  if [ $stop ]; then
    [ "$drain" = 0 ] || sleep "$drain"
    end "$asked"
  fi
  sleep 0.01
done
