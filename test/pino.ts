// A server that logs with pino, as Cloud Logging wants it.

import pino from "pino";

const labels = "logging.googleapis.com/labels";
const severities: Record<string, string> = { info: "INFO", warn: "WARNING", error: "ERROR" };

const log = pino({
  messageKey: "message",
  formatters: { level: (label, level) => ({ severity: severities[label], level }) },
});

const server = Bun.serve({
  port: process.env.PORT ?? 8081,
  fetch(request) {
    const { pathname } = new URL(request.url);
    const entry = {
      httpRequest: {
        requestMethod: request.method,
        requestUrl: pathname,
        status: 200,
        latency: "0.012s",
      },
      "logging.googleapis.com/trace": "projects/p/traces/06796866738c859f2f19b7cfb3214824",
      numbers: [0, -0.5, 1e21, 1.5e-9, 9007199254740993n],
      nothing: null,
      yes: true,
      text: 'größe "quoted" \\ \u2028 \x1b[31m\n\0 🚀',
      deep: { er: [{}, [], ""] },
    };
    log.info(entry, "no label yet");
    log.warn({ ...entry, [labels]: { team: "a", process: "mine" } }, "labels of its own");
    log.error(new Error("broken"));
    return new Response("hello\n");
  },
});

log.info(`listening on ${server.port}`);
