// Writes a trace and dies of a rejection that is awaited at the top.

async function inner() {
  await undefined;
  throw new Error("in a module", { cause: { code: 7 } });
}

process.stderr.write("== module\n");
console.error(await inner().catch((error) => error));
process.stderr.write("== dies\n");
await inner();
