// Cycle of 7 durable steps as 7 chained graphile-worker jobs (next job added by the step), PostgreSQL.
import { run, makeWorkerUtils } from 'graphile-worker';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { payload, say, post, lat, STEPS, work } from './reference.mjs';
const t0 = performance.now();
const [mode = 'idle', ns = '200', cs = '24'] = process.argv.slice(2);
const n = +ns, c = +cs;
let done = 0;
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: +(process.env.POOL ?? 26) });
await pool.query('create table if not exists outcome(id text, row jsonb)');
const tasks = {};
STEPS.forEach((s, i) => {
  tasks[s] = async (m, h) => {
    const o = await work(s, m);
    if (i < 6) await h.addJob(STEPS[i + 1], o);
    else { await h.query('insert into outcome values($1,$2)', [o.id, JSON.stringify(o)]); done++; }
  };
});
tasks.deliver = async (m, h) => {
  const receipt = await post(m.id, m.data);
  await h.query('insert into outcome values($1,$2)', [m.id, JSON.stringify(receipt)]);
  done++;
};
const quiet = { debug() {}, info() {}, warn() {}, error: console.error };
const { Logger } = await import('graphile-worker');
const worker = { concurrentJobs: c, maxPoolSize: c + 2, pollInterval: 1000 };
if (process.env.FAST) Object.assign(worker, { localQueue: { size: c + 1 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 });
const utils = await makeWorkerUtils({ pgPool: pool, logger: new Logger(() => () => {}) });
await utils.migrate();
const runner = await run({ pgPool: pool, taskList: tasks, noHandleSignals: true, logger: new Logger(() => () => {}), preset: { worker } });
say({ ev: 'ready', s: (performance.now() - t0) / 1e3 });
const pending = async () => +(await pool.query('select count(*) from graphile_worker._private_jobs')).rows[0].count;
if (mode === 'idle') await sleep(3600e3);
else if (mode === 'latency') {
  const v = [];
  for (let i = 0; i < n; i++) {
    const s = performance.now(), b = done;
    await utils.addJob('select', { id: `lat-${i}` });
    while (done === b) await sleep(0);
    v.push(performance.now() - s);
  }
  lat(v);
} else if (mode === 'recover') {
  while (await pending()) await sleep(20);
  say({ ev: 'done', s: (performance.now() - t0) / 1e3 });
} else {
  const s = performance.now();
  for (let i = 0; i < n; i += 500) {
    const jobs = [];
    for (let j = i; j < Math.min(n, i + 500); j++) jobs.push({ identifier: mode === 'dispatch' ? 'deliver' : 'select', payload: mode === 'dispatch' ? { id: `${mode}-${j}`, data: payload(16384) } : { id: `${mode}-${j}` } });
    await utils.addJobs(jobs);
  }
  say({ ev: 'enqueued', s: (performance.now() - s) / 1e3 });
  while (done < n) await sleep(5);
  while (await pending()) await sleep(10);
  const t = (performance.now() - s) / 1e3;
  say({ ev: 'done', n, s: t, per_s: n / t });
}
process.exit(0);
