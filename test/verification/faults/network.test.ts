// Network faults: the cable between a caller and services is cut in both directions, in one, and during a restart.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { catalogClient, inventoryClient } from '@armature/clients';
import t from 'tap';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import type { Teardown } from '../../support/infra.ts';
import {
  developerCredentials,
  type RunningService,
  startService,
  token,
  workloadCertificate,
} from '../../support/service.ts';
import type { CallResult, Question, Setup } from './caller-process.ts';
import { type Namespace, openNamespace, whyNoNamespaces } from './namespace.ts';

t.setTimeout(180_000);
/** After the cable is restored, calls must succeed within this time, without a restart of any process. */
const recoveryMs = 30_000;
/** Tolerance for late responses on a slow machine. */
const slackMs = 2_000;

const missing = whyNoNamespaces();
if (missing) console.error(`NOT TESTED: partitions, lost replies, half-open connections: ${missing}`);

t.test('two network namespaces', { skip: missing ?? false }, async (t) => {
  const whole = t;
  const namespace = openNamespace(t);
  const address = `${namespace.here}:0`;
  const [catalog, inventory] = await Promise.all([
    startService(t, 'catalog', { grpc: address }),
    startService(t, 'inventory', { grpc: address }),
  ]);
  // Calls as orders does, without a user token.
  const { certFile, keyFile, caFile } = await workloadCertificate('orders');
  const setup = { inventory: inventory.grpc, catalog: catalog.grpc, tls: { certFile, keyFile, caFile } };
  const caller = await openCaller(t, namespace, setup);
  const stock = await stocker(t, { catalog, inventory }, await token('bo'));
  const sku = await stock('T-NETWORK');

  let asked = 0;
  const reserve = (requestId: string, timeoutMs = 1_000) => {
    asked += 1;
    return caller.call('inventory', 'reserveStock', {
      message: { requestId, reservationId: randomUUID(), orderId: randomUUID(), lines: [{ sku, quantity: 1n }] },
      timeoutMs,
    });
  };
  const read = (timeoutMs = 1_000) =>
    caller.call('catalog', 'batchGetVariants', { message: { skus: [sku] }, timeoutMs });
  /** Calls until a call succeeds, and returns how long that took. */
  const recovered = async (call: () => Promise<CallResult>) => {
    const since = performance.now();
    for (;;) {
      const result = await call();
      if (result.code === 'OK') return performance.now() - since;
      if (performance.now() - since > recoveryMs)
        throw new Error(`no call succeeded within ${recoveryMs} ms: ${result.code} ${result.detail}`);
      await sleep(50);
    }
  };
  const reservations = () =>
    withConnection(inventory.database!.adminUrl, async (connection) => {
      const [rows] = await connection.query('select count(*) as n from reservation');
      return Number((rows as { n: number }[])[0]!.n);
    });
  const failsInTime = (t: Asserts, { code, tookMs, detail }: CallResult, timeoutMs: number) => {
    t.match(code, /^(UNAVAILABLE|DEADLINE_EXCEEDED)$/, detail);
    t.ok(tookMs < timeoutMs + slackMs, `response after ${Math.round(tookMs)} ms of ${timeoutMs}`);
  };

  t.afterEach(() => namespace.restore());
  t.equal((await read(10_000)).code, 'OK');
  t.equal((await reserve(randomUUID(), 10_000)).code, 'OK');

  await t.test('a partition', async (t) => {
    const before = await reservations();
    asked = 0;
    namespace.cut();
    const results = await Promise.all([read(500), reserve(randomUUID(), 500), reserve(randomUUID(), 1_000)]);
    for (const [index, result] of results.entries()) failsInTime(t, result, index === 2 ? 1_000 : 500);
    // Long enough for the client to detect the dead connections, and to fail to open others.
    const until = performance.now() + 8_000;
    while (performance.now() < until) {
      failsInTime(t, await read(500), 500);
      await sleep(500);
    }
    namespace.restore();
    const ms = [await recovered(() => read()), await recovered(() => reserve(randomUUID()))];
    t.comment(`calls succeed ${Math.round(ms[0]!)} and ${Math.round(ms[1]!)} ms after the cable is restored`);
    const acted = (await reservations()) - before;
    t.ok(acted >= 1 && acted <= asked, `${acted} reservations of ${asked} requests, one of which got a response`);
  });

  await t.test('only replies are lost', async (t) => {
    const sku = await stock('T-ONCE');
    const message = {
      requestId: randomUUID(),
      reservationId: randomUUID(),
      orderId: randomUUID(),
      lines: [{ sku, quantity: 1n }],
    };
    const ask = (timeoutMs: number) => caller.call('inventory', 'reserveStock', { message, timeoutMs });
    await recovered(() => read());
    namespace.loseReplies();
    failsInTime(t, await ask(3_000), 3_000);
    // Only this SKU: requests sent during the partition may still arrive.
    const acted = () => reserved(inventory, sku);
    t.equal(await acted(), 1, 'the request had its effect; the response was lost');
    namespace.restore();
    await recovered(() => ask(1_000));
    const [first, second] = [await ask(5_000), await ask(5_000)];
    t.equal(first.code, 'OK');
    t.equal(second.reply, first.reply, 'every repeat gets the same response');
    t.match(first.reply, message.reservationId);
    t.equal(await acted(), 1, 'and acts no more');
  });

  await t.test('half-open: the service is killed and restarted while the cable is cut', async (t) => {
    namespace.cut();
    // Its FIN is lost, so the caller keeps a connection whose other end no longer exists.
    await catalog.kill();
    const { database, vhost, grpc } = catalog;
    await startService(whole, 'catalog', { grpc, database: database!, vhost: vhost! });
    namespace.restore();
    const ms = await recovered(() => read());
    t.comment(`call succeeds after ${Math.round(ms)} ms`);
    const burst = await Promise.all(Array.from({ length: 20 }, () => read(5_000)));
    t.ok(
      burst.every(({ code }) => code === 'OK'),
      'and stays so',
    );
  });

  await t.test('a silent connection is closed, although the client makes no call', async (t) => {
    await recovered(() => read(5_000));
    t.ok(namespace.connections() > 0, 'there are connections');
    namespace.cut();
    const since = performance.now();
    while (namespace.connections() > 0 && performance.now() - since < 20_000) await sleep(100);
    t.equal(namespace.connections(), 0);
    t.comment(`closed after ${Math.round(performance.now() - since)} ms`);
    namespace.restore();
    await recovered(() => read());
  });
});

interface Asserts {
  match(found: string, pattern: RegExp, message: string): unknown;
  ok(found: boolean, message: string): unknown;
}

interface Caller {
  call(service: Question['service'], method: string, what: { message: object; timeoutMs: number }): Promise<CallResult>;
}

async function openCaller(t: Teardown, { enter }: Namespace, setup: Setup): Promise<Caller> {
  const [command, ...args] = enter;
  const program = join(import.meta.dirname, 'caller-process.ts');
  const child: ChildProcess = spawn(command!, [...args, process.execPath, program, JSON.stringify(setup)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced',
  });
  t.teardown(async () => {
    if (child.exitCode !== null) return;
    child.kill();
    await once(child, 'exit');
  });
  await once(child, 'message');
  const waiting = new Map<number, (result: CallResult) => void>();
  child.on('message', (result: CallResult) => {
    waiting.get(result.id)?.(result);
    waiting.delete(result.id);
  });
  let last = 0;
  return {
    async call(service, method, { message, timeoutMs }) {
      last += 1;
      const id = last;
      const received = new Promise<CallResult>((resolve) => waiting.set(id, resolve));
      child.send({ id, service, method, message, timeoutMs } satisfies Question);
      const result = await Promise.race([received, sleep(timeoutMs + 10_000, null, { ref: false })]);
      if (!result) throw new Error(`${method} hangs: no response ${10_000} ms after its deadline`);
      return result;
    },
  };
}

/** Units of a SKU in reservations. */
function reserved(inventory: RunningService, sku: string): Promise<number> {
  return withConnection(inventory.database!.adminUrl, async (connection) => {
    const [rows] = await connection.query('select sum(reserved) as n from stock where sku = ?', [sku]);
    return Number((rows as { n: string }[])[0]!.n);
  });
}

/** Puts a product with a thousand units on sale over an uncut connection, and returns its SKU. */
async function stocker(
  t: Teardown,
  { catalog, inventory }: { catalog: RunningService; inventory: RunningService },
  bearer: string,
): Promise<(sku: string) => Promise<string>> {
  const tls = await developerCredentials();
  const to = ({ grpc }: RunningService) => ({ addresses: [grpc], tls, token: () => bearer });
  const [products, levels] = [catalogClient(to(catalog)), inventoryClient(to(inventory))];
  t.teardown(() => {
    products.close();
    levels.close();
  });
  const { categoryId } = await products.createCategory({ slug: 'things', title: 'Things' }, { timeoutMs: 10_000 });
  return async (sku) => {
    const longTimeout = { timeoutMs: 10_000 };
    const variants = [{ sku, title: 'One size', prices: [{ currencyCode: 'EUR', amountMinor: 1_000n }] }];
    await products.createProduct({ categoryId, title: `Thing ${sku}`, variants }, longTimeout);
    await levels.receiveStock({ locationId: 'main', lines: [{ sku, quantity: 1_000n }] }, longTimeout);
    return sku;
  };
}
