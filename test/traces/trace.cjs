// Writes one stack trace of each kind, each behind a line `== name`, and dies of the last one:
// of an error, or with an argument of something else.

function inner() {
  throw new RangeError("the cause");
}

function caused() {
  try {
    inner();
  } catch (cause) {
    throw new Error("the effect", { cause });
  }
}

function thrice() {
  try {
    caused();
  } catch (cause) {
    throw Object.assign(new TypeError("the end", { cause }), { code: "E_END", tries: [1, 2] });
  }
}

function properties() {
  const request = { method: "GET", headers: { host: "localhost", at: "the door" } };
  throw Object.assign(new Error("with properties"), { code: "ENOENT", errno: -2, request });
}

function several() {
  const errors = [inner, caused].map((call) => errorOf(call));
  throw new AggregateError([...errors, "a text"], "several");
}

function lines() {
  throw new Error("2 fields are wrong\n  name: missing\n  age: no number");
}

class OwnError extends Error {
  name = "OwnError";
}

function own() {
  throw new OwnError("of a class");
}

function bare() {
  throw new Error();
}

function errorOf(call) {
  try {
    call();
  } catch (error) {
    return error;
  }
}

function mark(name) {
  process.stderr.write(`== ${name}\n`);
}

function shown(name, call, ...words) {
  mark(name);
  console.error(...words, errorOf(call));
}

function last() {
  inner();
}

shown("one", inner);
shown("words in front", inner, "request failed:");
shown("caused", caused);
shown("thrice", thrice);
shown("properties", properties);
shown("several", several);
shown("lines", lines);
shown("own class", own);
shown("bare", bare);
shown("syntax", () => JSON.parse("{"));
shown("file", () => require("node:fs").readFileSync("/none"));
mark("traced");
console.trace("a trace");
mark("stack alone");
console.error(errorOf(caused).stack);
mark("logged in one");
console.error(`2026-01-01T00:00:00.000Z ERROR [app] request failed\n${errorOf(inner).stack}`);
mark("dies");
const deaths = {
  error: last,
  properties,
  event: () => new (require("node:events"))().emit("error", errorOf(caused)),
  rejection: () => Promise.reject(errorOf(thrice)),
  reason: () => Promise.reject("a text"),
  text: () => {
    throw "a text";
  },
};
deaths[process.argv[2] ?? "error"]();
