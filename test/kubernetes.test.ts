/** README's manifests: checked against Kubernetes' own schemas, and their containers run as they would be. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { DaemonSet } from "kubernetes-models/apps/v1/DaemonSet";
import { CronJob } from "kubernetes-models/batch/v1/CronJob";
import { Pod } from "kubernetes-models/v1/Pod";
import { PersistentVolumeClaim } from "kubernetes-models/v1/PersistentVolumeClaim";
import { Secret } from "kubernetes-models/v1/Secret";
import type { ISecurityContext } from "kubernetes-models/v1/SecurityContext";
import type { IContainer } from "kubernetes-models/v1/Container";
import type { IPodSpec } from "kubernetes-models/v1/PodSpec";
import { DONE, compiled, line, lines, repository, Scene, until } from "./harness.ts";
import { peakMemory } from "./machine.ts";
import { block, file } from "./readme.ts";
import { Server, testOnServer } from "./server.ts";

setDefaultTimeout(180_000);

type Manifest = { kind: string; apiVersion: string };
const MODELS = { CronJob, DaemonSet, PersistentVolumeClaim, Secret };
const PLACES: Record<string, string> = { CronJob: "batch/v1", DaemonSet: "apps/v1" };

/** The manifests of a block, as `kubectl apply` reads them. */
function manifests(name: string): Manifest[] {
  const parsed = Bun.YAML.parse(block(name)) as Manifest | Manifest[];
  return Array.isArray(parsed) ? parsed : [parsed];
}

function manifest<Model>(name: string, kind: string): Model {
  return manifests(name).find((each) => each.kind === kind) as Model;
}

// ── Schemas ─────────────────────────────────────────────────────────────────────────────────────

/** What the types of Kubernetes' objects say against manifests: the schemas let unknown fields pass. */
function typeErrors(all: readonly Manifest[]): string {
  using scene = new Scene();
  const models = `${repository}/node_modules/kubernetes-models`;
  for (const [index, each] of all.entries()) {
    const { kind } = each;
    const text = `import type { I${kind} } from "${models}/${PLACES[kind] ?? "v1"}/${kind}";
      export const manifest: I${kind} = ${JSON.stringify(each)};`;
    fs.writeFileSync(`${scene.directory}/${index}.ts`, text);
  }
  const flags = ["--types", "node", "--skipLibCheck", scene.directory];
  const { stdout } = spawnSync(process.execPath, ["check", ...flags], { cwd: repository });
  return String(stdout);
}

describe("the manifests", () => {
  const all = [...manifests("cronjob"), ...manifests("daemonset")];

  test("fit Kubernetes' schemas", () => {
    expect(all.map(({ kind }) => kind).sort()).toEqual(Object.keys(MODELS).sort());
    for (const each of all) {
      const Model = MODELS[each.kind as keyof typeof MODELS];
      new Model(each as never).validate();
    }
  });

  test("have no field that Kubernetes does not know", () => {
    expect(typeErrors(all)).toBe("");
    const misspelt = JSON.stringify(all).replace("enableServiceLinks", "enableServiceLink");
    expect(typeErrors(JSON.parse(misspelt))).toMatch(/enableServiceLink"' does not exist/);
  });
});

// ── Containers ──────────────────────────────────────────────────────────────────────────────────

/** What the node gives to a pod's volumes, by their name. */
type Volumes = Record<string, string>;

/** The command that runs a container: its user and groups, no privileges, nothing writable but volumes. */
function containerCommand(pod: IPodSpec, container: IContainer, volumes: Volumes): string[] {
  const user: ISecurityContext & IPodSpec["securityContext"] = {
    ...pod.securityContext,
    ...container.securityContext,
  };
  const { fsGroup = [], supplementalGroups = [], capabilities } = user;
  const kept = (capabilities?.add ?? []).map((name) => `,+${name.toLowerCase()}`).join("");
  const [, entrypoint = "[]"] = /^ENTRYPOINT (.*)$/m.exec(block("image")) ?? [];
  const mounts = (container.volumeMounts ?? []).map(({ name, mountPath, readOnly }) => {
    const place = `/image${mountPath}`;
    const seal = readOnly ? `; mount -o remount,bind,ro ${place}` : "";
    return `mkdir -p ${mountPath}; mount --bind ${volumes[name]} ${place}${seal}`;
  });
  const script = `
    mkdir -p /image; mount --bind / /image
    ${mounts.join("\n")}
    mount --rbind /proc /image/proc; mount --rbind /dev /image/dev
    mount -o remount,bind,ro /image
    exec chroot /image setpriv --no-new-privs --reuid=${user.runAsUser} --regid=${user.runAsGroup} \\
      --groups=${[user.runAsGroup, fsGroup, supplementalGroups].flat()} \\
      --inh-caps=-all --bounding-set=-all${kept} "$@"`;
  const command = container.command?.length ? container.command : JSON.parse(entrypoint);
  const words = [...command, ...(container.args ?? [])];
  return ["unshare", "--mount", "bash", "-ec", script, "sh", ...words];
}

/** The variables of a container, and nothing of what this machine has. */
function containerEnv(container: IContainer, server: Server): Record<string, string> {
  const own = (container.env ?? []).map(({ name, value, valueFrom }) => {
    expect(value ?? valueFrom?.fieldRef?.fieldPath).toBeTruthy();
    return [name, value ?? "web-1"];
  });
  expect(container.envFrom?.map(({ secretRef }) => secretRef?.name)).toEqual(["f2b-watch"]);
  const { stringData } = manifest<Secret>("cronjob", "Secret");
  expect(Object.keys(stringData ?? {})).toEqual(["DISCORD_WEBHOOK", "F2B_FORMAT"]);
  return { ...Object.fromEntries(own), DISCORD_WEBHOOK: server.discord.webhook, HOME: "/" };
}

/** Prints the pod that the only task of a DAG asks for. */
const POD_OF_OPERATOR = `
import json, sys
from airflow.dag_processing.dagbag import DagBag
from kubernetes.client import ApiClient

bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
(dag,) = bag.dags.values()
(task,) = dag.tasks
assert task.skip_on_exit_code == [75], task.skip_on_exit_code
print("POD", json.dumps(ApiClient().sanitize_for_serialization(task.build_pod_request_obj())))
`;

/** A node with a log, and the image's program where the image has it. */
async function node(): Promise<Server> {
  const server = await Server.start();
  const [, from, to] = /^COPY (\S+) (\S+)$/m.exec(block("image")) ?? [];
  await server.paste(`install -m 755 dist/${from} ${to}`, "/opt/f2b-watch");
  server.append(...lines(1, 3));
  await server.paste("chown root:adm /var/log/fail2ban.log; chmod 640 /var/log/fail2ban.log");
  return server;
}

/** A pod's container, or the one that runs before it. */
function containerOf(pod: IPodSpec, containers = pod.containers): IContainer {
  const [container] = containers;
  if (!container) throw new Error("the pod has no such container");
  return container;
}

const cronJobPod = () =>
  manifest<CronJob>("cronjob", "CronJob").spec.jobTemplate.spec?.template.spec as IPodSpec;
const VOLUMES = { log: "/var/log", state: "/volumes/state" };

/** Runs the CronJob's container, or a like pod's. */
function runPod(server: Server, pod = cronJobPod(), env = containerOf(pod)) {
  const command = containerCommand(pod, containerOf(pod), VOLUMES);
  return server.run(command, containerEnv(env, server));
}

describe("the containers", () => {
  const it = testOnServer("setpriv");
  it("the CronJob's refuses a volume that everybody may write to", async () => {
    await using server = await node();
    await server.paste("mkdir -p /volumes; install -d -m 777 /volumes/state");
    const { code, err } = await runPod(server);
    expect({ code, err }).toEqual({ code: 73, err: expect.stringContaining("by others") });
  });

  it("the CronJob's reads a rotated log and keeps its state in a volume that is the group's", async () => {
    await using server = await node();
    // What kubelet makes of a volume for `fsGroup`.
    await server.paste("mkdir -p /volumes; install -d -m 2770 -g 65532 /volumes/state");
    expect(await runPod(server)).toEqual(DONE);
    server.append(line(4));
    await server.paste("cd /var/log; mv fail2ban.log fail2ban.log.1");
    server.append(line(5));
    await server.paste("chown root:adm /var/log/fail2ban.log; chmod 640 /var/log/fail2ban.log");
    expect(await runPod(server)).toEqual(DONE);
    expect(server.discord.lines()).toEqual(lines(4, 5));
    expect(server.discord.messages.map(({ username }) => username)).toContain("Fail2Ban · web-1");
  });

  it("the DaemonSet's makes its folder its own, tells what is new, and leaves when told to", async () => {
    await using server = await node();
    await server.paste("mkdir /var/lib/f2b-watch");
    const pod = manifest<DaemonSet>("daemonset", "DaemonSet").spec?.template.spec;
    if (!pod) throw new Error("the DaemonSet has no pod");
    const volumes = { log: "/var/log", state: "/var/lib/f2b-watch" };
    const prepare = containerOf(pod, pod.initContainers ?? []);
    expect(await server.run(containerCommand(pod, prepare, volumes))).toEqual(DONE);
    const container = containerOf(pod);
    const words = container.command?.map((word) => word.replace("sleep 60", "sleep 1")) ?? [];
    const command = containerCommand(pod, { ...container, command: words }, volumes);
    const loop = server.start(command, containerEnv(container, server));
    const state = server.path("/var/lib/f2b-watch/f2b-watch");
    await until(() => fs.globSync("*.json", { cwd: state }).length > 0);
    server.append(line(4));
    await until(() => server.discord.lines().length > 0);
    expect(server.discord.lines()).toEqual([line(4)]);
    await server.run(["pkill", "-TERM", "-f", "^sh -c trap"]);
    expect(await loop.exited).toBe(0);
  });

  const airflow = dirname(Bun.which("airflow") ?? "");
  const provider = `${airflow}/../lib/python3.*/site-packages/airflow/providers/cncf/kubernetes`;
  const withProvider = airflow !== "." && fs.globSync(provider).length > 0;
  const note = withProvider ? "" : " (NOT RUN: no Airflow provider for Kubernetes, see .ci/run)";
  const onAirflow = withProvider ? it : test.skipIf(true);
  onAirflow(`the pod of Airflow's operator fits, and posts what is new${note}`, async () => {
    await using server = await node();
    server.put("airflow-pod");
    const { path } = file("airflow-pod");
    server.write("/tmp/pod.py", POD_OF_OPERATOR);
    // It wants to know a cluster, but asks it for nothing.
    const cluster = { name: "c", cluster: { server: "https://127.0.0.1:1" } };
    const context = { name: "c", context: { cluster: "c", user: "c" } };
    const users = [{ name: "c", user: {} }];
    const config = { clusters: [cluster], contexts: [context], users, "current-context": "c" };
    server.write("/tmp/kube.json", JSON.stringify(config));
    const env = { AIRFLOW_HOME: "/tmp/airflow", KUBECONFIG: "/tmp/kube.json" };
    const { out, err } = await server.run([`${airflow}/python`, "/tmp/pod.py", path], env);
    const [, manifest = ""] = /^POD (.*)$/m.exec(out) ?? [];
    expect({ manifest, err }).not.toMatchObject({ manifest: "" });
    const made = new Pod(JSON.parse(manifest));
    made.validate();
    const spec = made.spec as IPodSpec;
    await server.paste("mkdir -p /volumes; install -d -m 2770 -g 65532 /volumes/state");
    const run = () => runPod(server, spec, { ...containerOf(spec), env: [] });
    expect(await run()).toEqual(DONE);
    server.append(line(4));
    expect(await run()).toEqual(DONE);
    expect(server.discord.lines()).toEqual([line(4)]);
  });

  testOnServer()("glibc is all that the program needs of an image", async () => {
    await using server = await node();
    await server.paste(`
      mkdir -p /image/{lib,log,state,bin,dev,proc}
      mount --rbind /dev /image/dev; mount --rbind /proc /image/proc
      ln -s lib /image/lib64
      cp -L /lib*/ld-linux-*.so.* /image/lib
      for library in c m dl pthread; do cp -L /lib/*-linux-gnu/lib$library.so.? /image/lib; done
      cp /usr/local/bin/f2b-watch /image/bin; cp /var/log/fail2ban.log /image/log`);
    const pass = ["/bin/f2b-watch", "--log", "/log/fail2ban.log", "--state", "/state/f2b-watch"];
    const env = { DISCORD_WEBHOOK: server.discord.webhook };
    expect(await server.run(["chroot", "/image", ...pass], env)).toEqual(DONE);
    expect(server.discord.lines()).toEqual(lines(1, 3));
  });

  for (const [what, text] of Object.entries({ letters: "x", "control characters": "\x1b" })) {
    test(`the memory limit holds for a line of 3 MB of ${what}`, async () => {
      using scene = new Scene(line(1), line(2, `[sshd] Ban ${text.repeat(3_000_000)}`), line(3));
      const limit = String(containerOf(cronJobPod()).resources?.limits?.["memory"]);
      const flags = ["--dry-run", "--log", scene.log, "--state", scene.state];
      const child = Bun.spawn([compiled(), ...flags], { stdout: "ignore", stderr: "ignore" });
      expect(await peakMemory(child)).toBeWithin(1, Number(limit.replace("Mi", "")) * 2 ** 20);
      expect(child.exitCode).toBe(0);
    });
  }
});
