/** README's DAG, run by a real Airflow where there is one; its command is run anyway. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { dirname } from "node:path";
import { Discord } from "./discord.ts";
import { line, lines } from "./harness.ts";
import { file } from "./readme.ts";
import { Server, testOnServer } from "./server.ts";

setDefaultTimeout(300_000);

const LOG = "/var/log/fail2ban.log";
const airflow = Bun.which("airflow");
const note = airflow ? "" : " (NOT RUN: airflow is not installed, see .ci/run)";

/** A worker with a log, the program and the DAG; `airflow` is the user that owns what is Airflow's. */
async function worker(): Promise<Server> {
  const server = await Server.start();
  await server.paste("install -m 755 dist/f2b-watch /usr/local/bin/", "/opt/f2b-watch");
  server.write(LOG, lines(1, 3).join("\n") + "\n");
  server.put("airflow");
  await server.paste(`
    useradd --groups adm airflow
    chown root:adm ${LOG}; chmod 640 ${LOG}
    install -m 600 /dev/stdin /opt/airflow/f2b-watch.env <<'END'
DISCORD_WEBHOOK=https://discord.com/api/webhooks/…
END
    chown -R airflow: /opt/airflow`);
  return server;
}

/** Runs the DAG once for each webhook, with one more line in the log each time; retries at once. */
const RUN_DAG = `
import os, sys
from datetime import timedelta
from airflow.dag_processing.dagbag import DagBag

bag = DagBag("/opt/airflow/dags")
assert not bag.import_errors, bag.import_errors
dag = bag.dags["f2b_watch"]
assert (dag.max_active_runs, dag.catchup, len(dag.tasks)) == (1, False, 1)
dag.tasks[0].retry_delay = timedelta(0)
for number, webhook in enumerate(sys.argv[1:]):
    os.environ["DISCORD_WEBHOOK"] = webhook
    with open("${LOG}", "a") as log:
        log.write(f"2026-11-22 12:00:0{number},000 fail2ban.actions [9]: NOTICE  [sshd] Ban 192.0.2.{number}\\n")
    task, = dag.test().get_task_instances()
    print("RESULT", task.state, task.try_number, flush=True)
`;

describe("Airflow", () => {
  testOnServer("python3")("the DAG is Python, its command runs as the worker's user", async () => {
    await using server = await worker();
    const { path, text } = file("airflow");
    await server.paste(`python3 -m py_compile ${path}`);
    const [, first = "", second = ""] = /bash_command="(.*)"\n +"(.*)",/.exec(text) ?? [];
    const run = `runuser -u airflow -- ${first}${second}`;
    expect(await server.paste(run)).toBe("");
    await server.paste(`echo '${line(4)}' >> ${LOG}`);
    expect(await server.paste(run)).toBe("");
    expect(server.discord.lines()).toEqual([line(4)]);
  });

  const onServer = airflow ? testOnServer() : test.skipIf(true);
  onServer(`75 is tried again, 69 and 78 fail at once${note}`, async () => {
    await using server = await worker();
    const dead = new Discord({ rateLimits: false });
    const limited = new Discord({ rateLimits: false });
    dead.delete();
    limited.failAlways({ kind: "rate-limit", retryAfterS: 900 });
    const served = [dead.serve(), limited.serve()];
    const webhooks = [server.discord.webhook, dead.webhook, limited.webhook, "not a webhook"];
    server.write("/tmp/run.py", RUN_DAG);
    // Airflow itself may lie where only root can read it.
    await server.paste("chown -R root: /opt/airflow");
    const python = `${dirname(airflow ?? "")}/python`;
    const env = { AIRFLOW_HOME: "/tmp/airflow", AIRFLOW__CORE__DAGS_FOLDER: "/opt/airflow/dags" };
    for (const words of ["db migrate", "dags reserialize"]) {
      const done = await server.run([python, "-m", "airflow", ...words.split(" ")], env);
      expect(done).toMatchObject({ code: 0 });
    }
    const { out, err } = await server.run([python, "/tmp/run.py", ...webhooks], env);
    for (const { stop } of served) stop();
    const results = Array.from(out.matchAll(/^RESULT (.*)$/gm), ([, result]) => result);
    const expected = { results: ["success 1", "failed 1", "failed 6", "failed 1"] };
    expect({ results, err }).toMatchObject(expected);
    for (const code of [69, 75, 78]) expect(out).toContain(`exit code ${code}`);
  });
});
