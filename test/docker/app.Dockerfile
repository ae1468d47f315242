FROM alpine
RUN apk add --no-cache libstdc++ tini
COPY --from=entrypoint:binary-musl /usr/local/bin/entrypoint /usr/local/bin/
WORKDIR /app
COPY Procfile app.ts ./
USER 10001:10001
ENTRYPOINT ["tini", "--", "entrypoint"]
