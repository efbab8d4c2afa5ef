// Restate service endpoint (TypeScript SDK): cycle of 7 ctx.run steps, and dispatch alone.
import http2 from 'node:http2';
import * as restate from '@restatedev/restate-sdk';
import { payload, post, say } from './reference.mjs';
const svc = restate.service({
  name: 'peer',
  handlers: {
    cycle: async (ctx, { id }) => {
      const init = await ctx.run('select', () => ({ id, label: 'l', weight: 1, metadata: {}, payload: payload(1024) }));
      const t1 = await ctx.run('tier1', () => payload(init.payload.length));
      const t2 = await ctx.run('tier2', () => payload(t1.length * 16));
      const t3 = await ctx.run('tier3', () => payload(t2.length));
      const nm = await ctx.run('normalize', () => payload(t3.length));
      const rc = await ctx.run('dispatch', () => post(id, nm));
      return await ctx.run('record', () => ({ id, ok: rc.status === 200, receipt: rc.body }));
    },
    deliver: async (ctx, { id, data }) => (await ctx.run('dispatch', () => post(id, data))).status,
  },
});
http2.createServer(restate.createEndpointHandler({ services: [svc] })).listen(9080, '127.0.0.1');
say({ ev: 'svc-ready' });
