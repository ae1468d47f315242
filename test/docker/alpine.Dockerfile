# What an Alpine image has, of Debian's packages: BusyBox, musl, tini. libstdc++ is by test/musl.sh.
FROM debian:trixie-slim AS packages
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static musl tini
WORKDIR /alpine
COPY libstdc++.so.6 usr/lib/
RUN mkdir -m 1777 tmp && mkdir -p bin sbin lib etc root && \
    cp -L /lib/ld-musl-*.so.1 lib/ && \
    cp /usr/bin/tini-static sbin/tini && \
    cp /bin/busybox bin/ && \
    for name in $(busybox --list); do [ -e "bin/$name" ] || ln -s busybox "bin/$name"; done && \
    echo root:x:0:0:root:/root:/bin/sh >etc/passwd && \
    printf '#!/bin/sh\n# All that is asked for is there.\n' >sbin/apk && chmod +x sbin/apk

FROM scratch
COPY --from=packages /alpine /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["/bin/sh"]
