#!/bin/sh
# Installs the Debian packages that a command needs: sh test/setup.sh nginx wrk python3
# A name is that of a program and of its package alike, or PACKAGE:PROGRAM, or PACKAGE:/a/file of it.
# `tests` stands for all that npm test needs. Says what it installs; quiet when all is there.
set -eu
PATH=$PATH:/usr/sbin:/sbin

if [ "$*" = tests ]; then
  set -- nginx wrk python3 busybox patch \
    haproxy caddy varnish:varnishd tinyproxy memcached redis-server \
    python3-flask:/usr/bin/flask python3-pymemcache:/usr/lib/python3/dist-packages/pymemcache
fi

missing=
for name; do
  case $name in
    *:/*) [ -e "${name#*:}" ] ;;
    *) command -v "${name#*:}" >/dev/null ;;
  esac || missing="$missing ${name%%:*}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then sudo=
elif command -v sudo >/dev/null; then sudo=sudo
else
  echo "setup: needs root or sudo to install:$missing" >&2
  exit 1
fi
echo "setup: installing from Debian:$missing" >&2
# Debian starts a service that it installs; here nginx must not take port 80.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
  $sudo chmod +x $policy
  trap '$sudo rm -f $policy' EXIT
fi
log=$(mktemp)
if ! { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  echo "setup: could not install:$missing; the log is $log" >&2
  exit 1
fi
rm -f "$log"
