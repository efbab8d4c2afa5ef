// Drives Restate: starts the server and the service endpoint, registers it, sends invocations.
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { payload, say, lat } from './reference.mjs';
const t0 = performance.now();
const [mode = 'idle', ns = '200', cs = '64'] = process.argv.slice(2);
const n = +ns, c = +cs;
const agent = new Agent({ connections: 256, headersTimeout: 0, bodyTimeout: 0 });
const ING = 'http://127.0.0.1:8080', ADM = 'http://127.0.0.1:9070';
const req = async (url, body, headers = { 'content-type': 'application/json' }) => {
  const r = await request(url, { method: body === undefined ? 'GET' : 'POST', body: body === undefined ? undefined : JSON.stringify(body), headers: body === undefined ? {} : headers, dispatcher: agent });
  const t = await r.body.text();
  if (r.statusCode >= 300) throw new Error(`${url} ${r.statusCode} ${t}`);
  return t;
};
const kids = [];
const kid = (cmd, args) => { const p = spawn(cmd, args, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env } }); kids.push(p); return p; };
kid('./node_modules/@restatedev/restate-server-linux-x64/bin/restate-server', ['--no-logo', '--base-dir', process.env.SCRATCH, '--config-file', './restate.toml']);
if (process.env.SVC_BIN) kid(process.env.SVC_BIN, []); else kid(process.execPath, ['service.mjs']);
const bye = (code) => { for (const k of kids) k.kill('SIGKILL'); process.exit(code); };
process.on('SIGTERM', () => bye(0));
for (;;) { try { await req(`${ADM}/health`); await req(`${ING}/restate/health`); break; } catch { await sleep(10); } }
for (;;) { try { await req(`${ADM}/deployments`, { uri: 'http://127.0.0.1:9080', force: true }); break; } catch (e) { if (performance.now() - t0 > 30e3) { console.error(e.message); bye(1); } await sleep(20); } }
say({ ev: 'ready', s: (performance.now() - t0) / 1e3, pids: kids.map((k) => k.pid) });
const pending = async () => { try { return await pending1(); } catch { return -1; } };
const pending1 = async () => JSON.parse(await req(`${ADM}/query`, { query: `select count(*) as c from sys_invocation_status where status != 'completed'` }, { 'content-type': 'application/json', accept: 'application/json' })).rows[0].c;
if (mode === 'idle') await sleep(3600e3);
else if (mode === 'latency') {
  const v = [];
  for (let i = 0; i < n; i++) { const s = performance.now(); await req(`${ING}/peer/cycle`, { id: `lat-${i}` }); v.push(performance.now() - s); }
  lat(v);
} else if (mode === 'recover') {
  // Right after a start the query may see only the partitions already up: nothing pending must hold for 3 s.
  for (let z = 0; z < 30; z = (await pending()) === 0 ? z + 1 : 0) await sleep(100);
  say({ ev: 'done', s: (performance.now() - t0) / 1e3 - 3 });
} else {
  const s = performance.now();
  let i = 0;
  const each = async (h, mk) => { while (i < n) { const k = i++; await req(`${ING}/peer/${h}/send`, mk(k)); } };
  await Promise.all(Array.from({ length: c }, () => mode === 'dispatch' ? each('deliver', (k) => ({ id: `${mode}-${k}`, data: payload(16384) })) : each('cycle', (k) => ({ id: `${mode}-${k}` }))));
  say({ ev: 'enqueued', s: (performance.now() - s) / 1e3 });
  while (await pending()) await sleep(50);
  const t = (performance.now() - s) / 1e3;
  say({ ev: 'done', n, s: t, per_s: n / t });
}
bye(0);
