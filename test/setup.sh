#!/bin/sh
# Installs the Debian packages that a command needs: sh test/setup.sh nginx wrk python3
# A name is that of a program and of its package alike, or PACKAGE:PROGRAM, or PACKAGE:/a/file of it.
# `tests` stands for all that npm test needs, `release` for what npm run release does. Says what it
# installs; quiet when all is there.
set -eu
PATH=$PATH:/usr/sbin:/sbin

arm64='qemu-user:qemu-aarch64 libc6-arm64-cross:/usr/aarch64-linux-gnu/lib/libc.so.6'
if [ "$*" = tests ]; then
  sh "$0" $arm64 ||
    echo "setup: no qemu, arm64's tests are skipped" >&2
  set -- nginx libnginx-mod-http-echo:/usr/lib/nginx/modules/ngx_http_echo_module.so \
    libnginx-mod-http-brotli-filter:/usr/lib/nginx/modules/ngx_http_brotli_filter_module.so wrk python3 busybox patch musl-tools:musl-gcc g++ binutils:nm \
    haproxy caddy varnish:varnishd tinyproxy memcached redis-server \
    python3-flask:/usr/bin/flask python3-pymemcache:/usr/lib/python3/dist-packages/pymemcache \
    gunicorn uwsgi-core uwsgi-plugin-python3:/usr/lib/uwsgi/plugins/python3_plugin.so \
    ruby php-cli:php unicorn ruby-bundler:bundle apache2:apache2ctl lighttpd \
    php-fpm:/usr/share/doc/php-fpm postgresql:/usr/share/doc/postgresql \
    python3-django:/usr/lib/python3/dist-packages/django \
    python3-whitenoise:/usr/lib/python3/dist-packages/whitenoise \
    python3-fastapi:/usr/lib/python3/dist-packages/fastapi uvicorn:/usr/bin/uvicorn \
    python3-psycopg2:/usr/lib/python3/dist-packages/psycopg2 puma:/usr/bin/puma ruby-rack:/usr/share/doc/ruby-rack \
    libapache2-mod-php:/usr/share/doc/libapache2-mod-php cron faketime \
    celery:/usr/bin/celery python3-celery:/usr/lib/python3/dist-packages/celery python3-redis:/usr/lib/python3/dist-packages/redis \
    bash tini dumb-init gosu sudo make perl catatonit supervisor:supervisord ruby-foreman:foreman curl \
    mariadb-server:mariadbd python3-pymysql:/usr/lib/python3/dist-packages/pymysql \
    xvfb:Xvfb x11vnc websockify novnc:/usr/share/novnc jupyter-notebook
fi
if [ "$*" = release ]; then
  set -- $arm64 busybox musl-tools:musl-gcc g++ binutils:nm g++-aarch64-linux-gnu:aarch64-linux-gnu-g++
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
