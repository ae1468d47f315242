# source: all that the binary is made from, and the Bun that package-lock.json pins. It runs on this
# machine's platform and compiles for the one that is asked for: docker build --platform linux/arm64
FROM --platform=${BUILDPLATFORM:-linux} node:24-slim AS source
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci
COPY build.ts entrypoint.ts ./
ARG TARGETARCH
RUN arch=${TARGETARCH:-$(dpkg --print-architecture)} && \
    echo "bun-linux-$(echo "$arch" | sed s/amd64/x64/)" >target

FROM source AS build
RUN npx bun build.ts "$(cat target)" && mv dist/entrypoint-* dist/entrypoint

FROM source AS build-musl
RUN npx bun build.ts "$(cat target)-musl" && mv dist/entrypoint-* dist/entrypoint

# binary, binary-musl: the binary and nothing else, to copy into an image of one's own:
#   docker build --target binary -t entrypoint:binary .
#   COPY --from=entrypoint:binary /usr/local/bin/entrypoint /usr/local/bin/
# For Debian, Ubuntu and the like the first, for Alpine the second.
FROM scratch AS binary
COPY --from=build /src/dist/entrypoint /usr/local/bin/
FROM scratch AS binary-musl
COPY --from=build-musl /src/dist/entrypoint /usr/local/bin/

# entrypoint: the image to build on. FROM it, and give a program as CMD.
FROM debian:trixie-slim AS entrypoint
# Debian's nginx depends on iproute2 for its init script, which nothing here runs: an empty package
# of that name keeps 8 MB out. Its version is 0, so that apt-get install brings the real one.
RUN export DEBIAN_FRONTEND=noninteractive && \
    mkdir -p /tmp/iproute2/DEBIAN && \
    printf '%s\n' 'Package: iproute2' 'Version: 0' 'Architecture: all' \
      'Maintainer: entrypoint' 'Description: empty' >/tmp/iproute2/DEBIAN/control && \
    dpkg-deb --build /tmp/iproute2 && \
    dpkg --install /tmp/iproute2.deb && \
    apt-get update && \
    apt-get install -y --no-install-recommends nginx tini && \
    useradd --no-log-init --uid 10001 --user-group --home-dir /app --shell /usr/sbin/nologin app && \
    rm -rf /tmp/iproute2* /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old \
      /var/lib/dpkg/*-old /var/log/apt /var/log/*.log
WORKDIR /app
COPY --from=build /src/dist/entrypoint /usr/local/bin/
LABEL org.opencontainers.image.title="entrypoint" \
      org.opencontainers.image.description="tini, nginx and entrypoint, which starts an app behind nginx" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/debian:trixie-slim"
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "entrypoint"]

# demo: an app in TypeScript and its static files. The binary runs it, too: with BUN_BE_BUN=1 it is
# a whole Bun.
FROM entrypoint AS demo
COPY test/static static
COPY test/app.ts ./
CMD ["env", "BUN_BE_BUN=1", "entrypoint", "app.ts"]
