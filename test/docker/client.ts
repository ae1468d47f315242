// Asks a server, from wherever it is run, and writes what came of it as JSON.
//   client.ts URL get PATH...   each path once
//   client.ts URL load          /slow again and again, 20 at a time, until each of them fails

export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

export interface Load {
  answered: number;
  /** What came instead of the answer, and when it was asked for. */
  failures: { begun: number; refused: boolean; what: string }[];
}

const [base = "", what, ...paths] = process.argv.slice(2);

async function get(path: string): Promise<Answer> {
  const response = await fetch(base + path);
  const headers = Object.fromEntries(response.headers);
  return { status: response.status, headers, body: await response.text() };
}

async function load(end = Date.now() + 30_000): Promise<Load> {
  const outcome: Load = { answered: 0, failures: [] };
  const client = async (keepalive: boolean) => {
    while (Date.now() < end) {
      const begun = Date.now();
      const answer = await fetch(`${base}/slow?ms=200`, { keepalive }).then(
        async (response) => `${response.status} ${await response.text().catch(String)}`,
        (error: Error) => error,
      );
      if (answer === "200 slow, but here\n") {
        outcome.answered++;
        continue;
      }
      const refused = answer instanceof Error;
      outcome.failures.push({ begun, refused, what: String(answer) });
      return;
    }
  };
  await Promise.all(Array.from({ length: 20 }, (_, i) => client(i % 2 === 0)));
  return outcome;
}

console.log(JSON.stringify(what === "load" ? await load() : await Promise.all(paths.map(get))));
