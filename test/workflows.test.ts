// The workflows of a fork on GitHub, which cannot run here: GitHub's own parser reads them.

import { expect, test } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import {
  convertWorkflowTemplate,
  NoOperationTraceWriter,
  parseWorkflow,
} from "@actions/workflow-parser";
import { scripts } from "../package.json";
import { root } from "./harness.ts";

const folder = path.join(root, ".github/workflows");

for (const name of fs.readdirSync(folder))
  test(`${name} is a workflow, and what it runs is here`, async () => {
    const content = fs.readFileSync(path.join(folder, name), "utf8");
    const { context, value } = parseWorkflow({ name, content }, new NoOperationTraceWriter());
    expect(context.errors.getErrors().map(String)).toEqual([]);
    if (!value) throw new Error(`${name} is empty`);
    const { jobs } = await convertWorkflowTemplate(context, value);
    const steps = jobs.flatMap((job) => (job.type === "job" ? job.steps : []));
    const commands = steps.flatMap((step) => ("run" in step ? step.run.toDisplayString() : []));
    expect(commands.length).toBeGreaterThan(0);
    for (const command of commands) {
      const [program = "", word = "", script = ""] = command.split(/\s+/);
      if (program.startsWith(".")) fs.accessSync(path.join(root, program), fs.constants.X_OK);
      else if (`${program} ${word}` === "npm run") expect(scripts).toHaveProperty(script);
      else expect(["npm", "gh", "docker"]).toContain(program);
    }
  });
