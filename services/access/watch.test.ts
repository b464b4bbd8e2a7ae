import type { WatchPolicyResponse } from '@armature/proto/access/v1/access.ts';
import { policyOf } from '@armature/runtime/authz';
import t from 'tap';
import { refusal } from '../../test/support/refusal.ts';
import { startService } from '../../test/support/service.ts';
import {
  type AccessClient,
  any,
  clientOf,
  eventually,
  openTables,
  seedText,
  seedWith,
  serviceClient,
} from './testbed.ts';

t.setTimeout(120_000);
const service = await startService(t, 'access');
const admin = await clientOf(service, 'admin');
const orders = await serviceClient(service, 'orders');
t.teardown(() => {
  admin.close();
  orders.close();
});

/** Follows a stream in the background. */
function follow(client: AccessClient, digest = '') {
  const ending = new AbortController();
  const seen: WatchPolicyResponse[] = [];
  const done = (async () => {
    for await (const message of client.watchPolicy({ digest }, { signal: ending.signal })) seen.push(message);
  })().catch((error: unknown) => {
    if (!ending.signal.aborted) throw error;
  });
  return {
    seen,
    texts: () => seen.filter(({ chunk }) => chunk.length > 0),
    async end() {
      ending.abort(new Error('seen enough'));
      await done;
    },
  };
}

const currentDigest = async () => (await admin.listPolicyVersions({ pageSize: 1 })).versions[0]!.digest;

t.test('the text is sent at once and matches its digest', async (t) => {
  const stream = follow(orders);
  const first = await eventually('the first message', async () => stream.seen[0]);
  t.ok(first.complete);
  const policy = policyOf(Buffer.from(first.chunk).toString('utf8'));
  t.equal(policy.version, first.digest);
  t.match(policy.decide({ workload: 'service:orders', user: null }, 'payments.capture'), { allowed: true });
  await stream.end();
});

t.test('a watcher with the current version gets one confirmation each second and no text', async (t) => {
  const stream = follow(orders, await currentDigest());
  const began = Date.now();
  await eventually('three signs', async () => stream.seen.length >= 3);
  t.ok(Date.now() - began >= 1_500, 'the first at once, the others a second apart');
  t.equal(stream.texts().length, 0);
  t.ok(stream.seen.every(({ complete, version }) => complete && version >= 1n));
  await stream.end();
});

t.test('a change reaches every watcher well within a second', async (t) => {
  const digest = await currentDigest();
  const streams = Array.from({ length: 5 }, () => follow(orders, digest));
  await eventually('all hold it', async () => streams.every(({ seen }) => seen.length > 0));
  const waits: number[] = [];
  for (let round = 0; round < 10; round += 1) {
    const role = `role:reach${round}`;
    await admin.putRole({ name: role, rules: [any('orders.read')] });
    const responseAt = performance.now();
    await eventually('it has come', async () => {
      return streams.every((stream) => stream.texts().some(({ chunk }) => Buffer.from(chunk).includes(role)));
    });
    waits.push(performance.now() - responseAt);
  }
  waits.sort((a, b) => a - b);
  t.comment(`after the response: median ${waits[5]!.toFixed(0)} ms, slowest ${waits[9]!.toFixed(0)} ms`);
  t.ok(waits[5]! < 1_000, 'half of them at least, on however busy a machine');
  for (const stream of streams) await stream.end();
});

t.test('a change of another instance is found by polling', async (t) => {
  const other = await startService(t, 'access', { database: service.database, vhost: service.vhost });
  const there = await serviceClient(other, 'orders');
  const stream = follow(there, await currentDigest());
  await eventually('it is followed', async () => stream.seen.length > 0);
  await admin.putRole({ name: 'role:elsewhere', rules: [any('orders.read')] });
  await eventually('it has come', async () => {
    return stream.texts().some(({ chunk }) => Buffer.from(chunk).includes('role:elsewhere'));
  });
  await stream.end();
  there.close();
  t.pass();
});

t.test('a large policy is sent in chunks', async (t) => {
  const tables = await openTables(t);
  const instance = await tables.instance();
  const rows = Array.from({ length: 30_000 }, (_, index) => `g, user:user-with-a-very-long-name-${index}, role:staff`);
  await seedWith(instance, `${seedText}\n${rows.join('\n')}`);
  const large = await startService(t, 'access', { database: tables.database });
  const client = await serviceClient(large, 'orders');
  const stream = follow(client);
  await eventually('all parts', async () => {
    return stream.texts().at(-1)?.complete;
  });
  const parts = stream.texts();
  t.ok(parts.length > 1 && parts.every(({ chunk }) => chunk.length <= 1024 * 1024), `${parts.length} parts`);
  t.strictSame(
    parts.map(({ complete }) => complete),
    parts.map((_, index) => index === parts.length - 1),
  );
  t.equal(policyOf(Buffer.concat(parts.map(({ chunk }) => chunk)).toString()).version, parts[0]?.digest);
  await stream.end();
  client.close();
});

t.test('only services may watch', async (t) => {
  const denied = (async () => {
    for await (const _ of admin.watchPolicy({})) return;
  })();
  await t.rejects(denied, refusal({ code: 'PERMISSION_DENIED' }));
});
