import { setTimeout as sleep } from 'node:timers/promises';
import { inventoryClient } from '@armature/clients';
import { HealthCheckRequest, HealthCheckResponse } from '@armature/proto/grpc/health/v1/health.ts';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { RpcError } from '@armature/runtime';
import t, { type Test } from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { refusal } from '../support/refusal.ts';
import { developerCredentials, type RunningService, startService, token, untilReady } from '../support/service.ts';
import { openWire } from './wire.ts';

t.setTimeout(180_000);
const drainLimitMs = 10_000;
const callers = 24;
const tls = await developerCredentials();
const bo = await token('bo');
const first = await startService(t, 'inventory');
const startAnother = () => startService(t, 'inventory', { database: first.database, vhost: first.vhost });

function clientOf(t: Pick<Test, 'teardown'>, ...services: RunningService[]) {
  const client = inventoryClient({ addresses: services.map(({ grpc }) => grpc), tls, token: () => bo });
  t.teardown(() => client.close());
  return client;
}

/** A busy machine takes longer than the default deadline of a read. */
const patient = { timeoutMs: 10_000 };

/** Makes both kinds of calls without a pause until it is stopped, and records the failures. */
function load(client: ReturnType<typeof clientOf>, sku: string) {
  const failures: string[] = [];
  let [stopped, done, received] = [false, 0, 0n];
  const caller = async (index: number) => {
    while (!stopped) {
      try {
        if (index % 2) await client.batchGetStock({ skus: [sku] }, patient);
        else {
          await client.receiveStock({ locationId: 'main', lines: [{ sku, quantity: 1n }] }, patient);
          received += 1n;
        }
        done += 1;
      } catch (error) {
        failures.push(error instanceof RpcError ? `${error.code} ${error.reason} ${error.message}` : String(error));
      }
    }
  };
  const running = Array.from({ length: callers }, (_, index) => caller(index));
  return {
    done: () => done,
    received: () => received,
    async stop() {
      stopped = true;
      await Promise.all(running);
      return failures;
    },
  };
}

/** Waits until this many more calls got a response: proof that the load goes on, whatever the speed of the machine. */
async function more(calls: ReturnType<typeof load>, count: number): Promise<void> {
  const target = calls.done() + count;
  while (calls.done() < target) await sleep(5);
}

async function drain(service: RunningService): Promise<{ code: unknown; tookMs: number }> {
  const since = performance.now();
  return { code: await service.stop(), tookMs: performance.now() - since };
}

/** The sum of the metrics whose line matches. */
async function sum(service: RunningService, pattern: RegExp): Promise<number> {
  const page = await (await fetch(`http://${service.admin}/metrics`)).text();
  const lines = page.split('\n').filter((line) => pattern.test(line));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}
const handled = (service: RunningService) => sum(service, /^grpc_server_handled_total\{.*grpc_code="OK"/);
const inFlight = (service: RunningService) => sum(service, /^armature_rpc_in_flight/);

t.test('SIGTERM under load fails no idempotent call', async (t) => {
  for (const round of [1, 2]) {
    await t.test(`round ${round}`, async (t) => {
      const leaving = await startAnother();
      const sku = `DRAIN-${round}`;
      const client = clientOf(t, leaving, first);
      await client.receiveStock({ locationId: 'main', lines: [{ sku, quantity: 1n }] });
      const calls = load(client, sku);
      await more(calls, 200);
      t.ok((await handled(leaving)) > 20, 'calls go to the one that is about to leave');
      t.ok((await handled(first)) > 20, 'and to the other');
      const { code, tookMs } = await drain(leaving);
      await more(calls, 200);
      t.strictSame(await calls.stop(), [], 'what has failed');
      t.equal(code, 0);
      t.ok(tookMs < drainLimitMs, `drained in ${tookMs} ms`);
      t.comment(`drained in ${Math.round(tookMs)} ms under load, ${calls.done()} calls`);
      const { levels } = await client.batchGetStock({ skus: [sku] });
      t.equal(levels[0]?.onHand, calls.received() + 1n, 'every delivery was counted once');
      t.match(leaving.logs(), /"msg":"stopped"/);
      t.notMatch(leaving.logs(), /"level":(50|60)/, 'no error is logged');
    });
  }
});

t.test('a call in flight finishes', async (t) => {
  const leaving = await startAnother();
  const client = clientOf(t, leaving);
  await client.receiveStock({ locationId: 'main', lines: [{ sku: 'SLOW', quantity: 5n }] });
  const holder = await connectMysql(first.database!.adminUrl);
  t.teardown(() => holder.end());
  await holder.beginTransaction();
  await holder.query("select * from stock where sku = 'SLOW' for update");
  const slow = client.adjustStock({ sku: 'SLOW', locationId: 'main', delta: 2n, note: 'slow' }, { timeoutMs: 8_000 });
  while ((await inFlight(leaving)) === 0) await sleep(10);
  const stopping = drain(leaving);
  while (!leaving.logs().includes('draining')) await sleep(5);
  await t.rejects(
    clientOf(t, leaving).batchGetStock({ skus: ['SLOW'] }, { timeoutMs: 500 }),
    refusal({ code: /UNAVAILABLE|DEADLINE_EXCEEDED/ as unknown as 'UNAVAILABLE' }),
    'new calls are refused',
  );
  await holder.commit();
  t.match(await slow, { onHand: 7n });
  t.equal((await stopping).code, 0);
});

t.test('streams end with UNAVAILABLE, and clients continue on another instance', async (t) => {
  const leaving = await startAnother();
  const direct = clientOf(t, leaving);
  const sku = 'WATCHED';
  await direct.receiveStock({ locationId: 'main', lines: [{ sku, quantity: 5n }] });
  const streams = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const stream = direct.watchStock({ skus: [sku] })[Symbol.asyncIterator]();
      t.match((await stream.next()).value, { onHand: 5n });
      return stream;
    }),
  );
  const calls = load(clientOf(t, leaving, first), sku);
  const stopping = drain(leaving);
  // A last change may come first; then the stream ends with the reason.
  const ends = await Promise.allSettled(
    streams.map(async (stream) => {
      for (;;) if ((await stream.next()).done) return;
    }),
  );
  const { code, tookMs } = await stopping;
  t.strictSame(await calls.stop(), [], 'what has failed');
  for (const end of ends) {
    t.match(end, { status: 'rejected', reason: { code: 'UNAVAILABLE', reason: 'DRAINING' } });
  }
  t.equal(code, 0);
  t.ok(tookMs < 3_000, `streams do not delay the drain: drained in ${tookMs} ms`);
  for await (const level of clientOf(t, leaving, first).watchStock({ skus: [sku] })) {
    t.equal(level.onHand, 5n + calls.received(), 'another instance goes on');
    break;
  }
});

t.test('health reports the drain, and watching it does not delay it', async (t) => {
  const leaving = await startAnother();
  const wire = await openWire(leaving.grpc, tls);
  t.teardown(() => wire.close());
  const service = InventoryServiceContract.name;
  const watched = wire.call('/grpc.health.v1.Health/Watch', {
    message: HealthCheckRequest.encode({ service }).finish(),
  });
  const check = await wire.call('/grpc.health.v1.Health/Check', {
    message: HealthCheckRequest.encode({ service: '' }).finish(),
  });
  const statusOf = (bytes: Buffer | undefined) => HealthCheckResponse.decode(bytes!).status;
  t.equal(statusOf(check.replies[0]), 1, 'SERVING');
  await untilReady(leaving);
  t.equal((await fetch(`http://${leaving.admin}/readyz`)).status, 200);
  const { code, tookMs } = await drain(leaving);
  const { replies } = await watched;
  t.strictSame(replies.map(statusOf), [1, 2], 'SERVING, then NOT_SERVING');
  t.equal(code, 0);
  t.ok(tookMs < 3_000, `drained in ${tookMs} ms`);
});

t.test('the instance that stayed still serves', async (t) => {
  t.equal(first.process.exitCode, null);
  t.notMatch(first.logs(), /"level":(50|60)/);
  t.equal(await first.stop(), 0);
});
