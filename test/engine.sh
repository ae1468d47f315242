#!/bin/sh
# Makes ready what test/docker.test.ts needs: a Docker engine that answers, gVisor, objdump, and the
# base images that the Dockerfiles name. Says what it installs; quick when all is there.
#   engine.sh               ready, and a dockerd that it had to start runs on
#   engine.sh stop          ends that dockerd
#   engine.sh with COMMAND  ready, COMMAND, stop; where no engine can be had, COMMAND all the same
set -eu
pidfile=/run/entrypoint-test-dockerd.pid
log=/var/log/entrypoint-test-dockerd.log

main() {
  # Debian's own docker first: it has BuildKit in it, a bare newer client has not.
  PATH=/usr/bin:$PATH:/usr/sbin:/sbin
  answers || start
  install binutils objdump
  (install runsc) || echo "engine: no runsc, gVisor's test is skipped" >&2
  debian trixie
  debian bookworm
  node 24
  python 3.13
}

with() {
  trap : INT TERM # for COMMAND, which has them from the terminal too
  before=$(started)
  status=0
  sh "$0" || echo "engine: tests that need one are skipped" >&2
  "$@" || status=$?
  [ "$(started)" = "$before" ] || stop
  exit $status
}

started() {
  cat "$pidfile" 2>/dev/null || :
}

answers() {
  docker version >/dev/null 2>&1
}

start() {
  [ "$(id -u)" = 0 ] || fail "no Docker engine answers, and only root can start one"
  install docker.io dockerd
  answers && return # a service manager has started it
  # In a session of its own: a Ctrl-C on the tests is not meant for it.
  setsid dockerd >"$log" 2>&1 &
  echo $! >"$pidfile"
  for _ in $(seq 150); do
    answers && return
    kill -0 "$(cat "$pidfile")" 2>/dev/null || break
    sleep 0.2
  done
  tail -5 "$log" >&2
  stop
  fail "dockerd does not start, see $log"
}

stop() {
  pid=$(started)
  [ "$pid" ] || return 0
  rm "$pidfile"
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] || return 0
  kill "$pid"
  while [ -d "/proc/$pid" ]; do sleep 0.1; done
}

# ---- base images: the real one, or a stand-in of the same name where nothing can be pulled

debian() {
  have "debian:$1-slim" && return
  install mmdebstrap
  # Without documentation, and keeping it out, as the real one.
  mmdebstrap --quiet --variant=minbase \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
    "$1" "$work/root.tar"
  docker import --change 'CMD ["bash"]' \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    "$work/root.tar" "debian:$1-slim" >/dev/null
  rm "$work/root.tar"
}

# Node and npm from the npm registry, and what this machine trusts to reach it.
node() {
  have "node:$1-slim" && return
  npm install --loglevel=error --no-save --prefix "$work" "node-linux-$(npm_arch)@$1" npm@11 >/dev/null
  cp "${NODE_EXTRA_CA_CERTS:-/etc/ssl/certs/ca-certificates.crt}" "$work/ca.crt"
  build "node:$1-slim" <<EOF
FROM debian:trixie-slim
COPY ca.crt /etc/ssl/certs/ca-certificates.crt
COPY node_modules/node-linux-$(npm_arch)/bin/node /usr/local/bin/
COPY node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
RUN ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
CMD ["node"]
EOF
}

npm_arch() {
  case $(uname -m) in aarch64) echo arm64 ;; *) echo x64 ;; esac
}

# Debian 13's Python is 3.13.
python() {
  have "python:$1-slim" && return
  build "python:$1-slim" <<EOF
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends python-is-python3 && rm -r /var/lib/apt/lists/*
CMD ["python3"]
EOF
}

have() {
  docker image inspect "$1" >/dev/null 2>&1 && return
  docker pull --quiet "$1" >/dev/null 2>&1 && return
  echo "engine: $1 cannot be pulled, making a stand-in" >&2
  work=${work:-$(mktemp -d)}
  trap 'rm -rf "$work"' EXIT
  return 1
}

build() {
  cat >"$work/Dockerfile"
  DOCKER_BUILDKIT=1 docker build --quiet --network host --tag "$1" "$work" >/dev/null
}

# ---- Debian packages

install() { # PACKAGE [PROGRAM]
  command -v "${2:-$1}" >/dev/null && return
  command -v apt-get >/dev/null || fail "$1 is missing, and this is no Debian"
  echo "engine: installing Debian's $1" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -qq --no-install-recommends "$1" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -qq --no-install-recommends "$1" >/dev/null; }
  hash -r
}

fail() {
  echo "engine: $*" >&2
  exit 1
}

case "${1-}" in
  "") main ;;
  stop) stop ;;
  with) shift && with "$@" ;;
  *) fail "no such word: $1" ;;
esac
