// Cycle of 7 durable steps as 7 chained pg-boss jobs (one queue a step), PostgreSQL.
import { PgBoss } from 'pg-boss';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { payload, say, post, lat, STEPS, work } from './reference.mjs';
const t0 = performance.now();
const [mode = 'idle', ns = '200', cs = '8'] = process.argv.slice(2);
const n = +ns, c = +cs;
let done = 0;
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
await pool.query('create table if not exists outcome(id text, row jsonb)');
const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, max: +(process.env.POOL ?? 20), useListenNotify: true });
boss.on('error', (e) => console.error(e.message));
await boss.start();
const expire = +(process.env.EXPIRE_S ?? 900);
for (const q of [...STEPS, 'deliver']) await boss.createQueue(q, { notify: true, expireInSeconds: expire, retryLimit: 3 });
const opt = { localConcurrency: c, batchSize: +(process.env.BATCH ?? 10), pollingIntervalSeconds: 0.5, burstWhenBatchFull: true };
let i = 0;
for (const s of STEPS) {
  const next = STEPS[++i];
  await boss.work(s, opt, async (jobs) => Promise.all(jobs.map(async ({ data }) => {
    const o = await work(s, data);
    if (next) await boss.send(next, o);
    else { await pool.query('insert into outcome values($1,$2)', [o.id, JSON.stringify(o)]); done++; }
    return { ok: true };
  })));
}
await boss.work('deliver', opt, async (jobs) => Promise.all(jobs.map(async ({ data }) => {
  const receipt = await post(data.id, data.data);
  await pool.query('insert into outcome values($1,$2)', [data.id, JSON.stringify(receipt)]);
  done++;
  return { ok: true };
})));
say({ ev: 'ready', s: (performance.now() - t0) / 1e3 });
const pending = async () => +(await pool.query(`select count(*) from pgboss.job where name = any($1) and state in ('created','active','retry')`, [[...STEPS, 'deliver']])).rows[0].count;
if (mode === 'idle') await sleep(3600e3);
else if (mode === 'latency') {
  const v = [];
  for (let k = 0; k < n; k++) {
    const s = performance.now(), b = done;
    await boss.send('select', { id: `lat-${k}` });
    while (done === b) await sleep(1);
    v.push(performance.now() - s);
  }
  lat(v);
} else if (mode === 'recover') {
  while (await pending()) await sleep(50);
  say({ ev: 'done', s: (performance.now() - t0) / 1e3 });
} else {
  const s = performance.now(), q = mode === 'dispatch' ? 'deliver' : 'select';
  for (let k = 0; k < n; k += 500) {
    const jobs = [];
    for (let j = k; j < Math.min(n, k + 500); j++) jobs.push({ data: mode === 'dispatch' ? { id: `${mode}-${j}`, data: payload(16384) } : { id: `${mode}-${j}` } });
    await boss.insert(q, jobs);
  }
  say({ ev: 'enqueued', s: (performance.now() - s) / 1e3 });
  while (done < n) await sleep(5);
  while (await pending()) await sleep(20);
  const t = (performance.now() - s) / 1e3;
  say({ ev: 'done', n, s: t, per_s: n / t });
}
process.exit(0);
