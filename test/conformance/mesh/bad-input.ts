import { randomBytes, randomInt, randomUUID as uuid } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import type { MethodContract, ServiceContract } from '@armature/proto/contract.ts';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import type { Code } from '@armature/runtime/errors';
import t, { type Test } from 'tap';
import { wish } from '../../e2e/shop.ts';
import { workloadCertificate } from '../../support/service.ts';
import { type BadRow, badRows } from '../bad-rows.ts';
import { contracts } from '../contracts.ts';
import { leaksOf } from '../leaks.ts';
import { setStage } from '../stage.ts';
import { frame, openWire, type RawCall, type RawResponse, type Wire } from '../wire.ts';
import { shop } from './shop.ts';

const { stage, wires, credentialsOf, snapshot } = await setStage(t, shop);
const { sku } = stage;

/** Every row must change nothing. Each snapshot is compared with the one after the row before. */
let before = await snapshot();

type Want = Pick<BadRow, 'reason' | 'fields'> & { code: Code | 'OK' | '' };

async function expectRefusal(t: Test, response: RawResponse, want: Want): Promise<void> {
  t.equal(response.code, want.code, `the code of ${JSON.stringify(response.message)}`);
  if (want.reason !== undefined) t.equal(response.error?.reason, want.reason, 'the reason');
  if (want.reason !== undefined)
    t.match(response.error?.domain, /^[a-z]+\.armature\.local$/, 'the domain of the reason');
  if (want.fields) {
    const named = response.error?.details.fieldViolations ?? [];
    t.strictSame([...new Set(named.map(({ field }) => field))], want.fields, 'the fields');
    t.ok(named.every(({ description, reason }) => description && reason));
  }
  t.strictSame(leaksOf(response), [], 'what the response leaks');
  const after = await snapshot();
  t.strictSame(after, before, 'what has changed');
  before = after;
}

const bytesOf = (method: MethodContract, message: object): Buffer =>
  Buffer.from(method.request.encode(method.request.fromPartial(message)).finish());

async function send(method: MethodContract, as: string, call: RawCall): Promise<RawResponse> {
  const { wire, headers } = await credentialsOf(as, method);
  return wire.call(method.path, { ...call, headers: { ...headers, ...call.headers } });
}

t.test('requests that break a rule', async (t) => {
  for (const row of badRows(stage)) {
    await t.test(row.name, async (t) => {
      const response = await send(row.method, row.as, { message: bytesOf(row.method, row.message) });
      await expectRefusal(t, response, row);
    });
  }
});

const { reserveStock, batchGetStock, adjustStock } = InventoryServiceContract.methods;
const { createCategory, listCategories } = CatalogServiceContract.methods;
const { placeOrder } = OrderServiceContract.methods;
const stockOf = bytesOf(batchGetStock, { skus: [sku] });

/** Replaces "@@@" by the bytes ED A0 80, a lone surrogate, which is invalid in UTF-8. */
function withSurrogate(bytes: Buffer): Buffer {
  const at = bytes.indexOf('@@@');
  if (at < 0) throw new Error('no place for the surrogate');
  return Buffer.concat([bytes.subarray(0, at), Buffer.from([0xed, 0xa0, 0x80]), bytes.subarray(at + 3)]);
}

interface BytesRow {
  name: string;
  method: MethodContract;
  as: string;
  call: RawCall;
  want: Want;
}

const malformed: Want = { code: 'INVALID_ARGUMENT', reason: 'MESSAGE_MALFORMED' };
const reservation = { requestId: uuid(), reservationId: uuid(), orderId: uuid() };

/** Requests with a lone surrogate in a text. */
function surrogateRows(): BytesRow[] {
  const category = { requestId: uuid(), slug: 'other', title: 'a@@@b' };
  const adjustment = { requestId: uuid(), sku, locationId: 'main', delta: 1n, note: 'a@@@b' };
  return (
    [
      [createCategory, 'developer+bo', category],
      [adjustStock, 'developer+bo', adjustment],
      [reserveStock, 'orders', { ...reservation, lines: [{ sku: 'a@@@b', quantity: 1n }] }],
      [placeOrder, 'developer+ada', wish(sku, { shippingAddress: { recipient: 'a@@@b' } })],
      [batchGetStock, 'developer+ada', { skus: ['@@@'] }],
    ] as const
  ).map(([method, as, message]) => ({
    name: `a lone surrogate: ${method.name}`,
    method,
    as,
    call: { message: withSurrogate(bytesOf(method, message)) },
    want: malformed,
  }));
}

/** Rows of one message with a wrong mark of compression, or followed by bytes at which a lenient decoder stops. */
function strayBytesRows(reserve: Buffer): BytesRow[] {
  const gzip = { 'grpc-encoding': 'gzip' };
  return [
    ...[2, 7, 0x80, 0xff].map((flag) => ({
      name: `a compression flag of ${flag}`,
      method: reserveStock,
      as: 'orders',
      call: { body: frame(reserve, { compressed: flag }), headers: gzip },
      want: { code: 'INTERNAL' as const },
    })),
    {
      name: 'compression without its name',
      method: reserveStock,
      as: 'orders',
      call: { body: frame(reserve, { compressed: 1 }) },
      want: { code: 'INTERNAL' },
    },
    ...Object.entries({
      'the end of a group that has not begun': Buffer.from([0x0c]),
      'a field of number 0': Buffer.from([0x00, 0x01]),
      'a group that does not end': Buffer.from([0x7b, 0x08, 0x01]),
    }).map(([name, bytes]) => ({
      name,
      method: reserveStock,
      as: 'orders',
      call: { message: Buffer.concat([reserve, bytes]) },
      want: malformed,
    })),
  ];
}

t.test('bytes that are not a message', async (t) => {
  const reserve = bytesOf(reserveStock, { ...reservation, lines: [{ sku, quantity: 1n }] });
  const gzip = { 'grpc-encoding': 'gzip' };
  const mebibytes = (count: number) => Buffer.alloc(count * 1024 * 1024 + 1);
  const rows: BytesRow[] = [
    ...surrogateRows(),
    ...[reserve.subarray(0, -1), Buffer.from([0xff]), Buffer.from('{"lines":[]}'), Buffer.from([0x0a, 0xff, 0x01])].map(
      (message, index) => ({
        name: `bytes that end too early, ${index + 1}`,
        method: reserveStock,
        as: 'orders',
        call: { message },
        want: malformed,
      }),
    ),
    {
      name: 'over 4 MiB',
      method: reserveStock,
      as: 'orders',
      call: { message: mebibytes(4) },
      want: { code: 'RESOURCE_EXHAUSTED' },
    },
    {
      name: 'a length of 4 GiB that is never sent',
      method: reserveStock,
      as: 'orders',
      call: { body: frame(reserve, { length: 0xffffffff }) },
      want: { code: 'RESOURCE_EXHAUSTED' },
    },
    {
      name: 'over 4 MiB once it is unpacked',
      method: reserveStock,
      as: 'orders',
      call: { body: frame(gzipSync(mebibytes(64)), { compressed: 1 }), headers: gzip },
      want: { code: 'RESOURCE_EXHAUSTED' },
    },
    {
      name: 'what cannot be unpacked',
      method: reserveStock,
      as: 'orders',
      call: { body: frame(gzipSync(reserve).subarray(0, -9), { compressed: 1 }), headers: gzip },
      want: { code: 'INTERNAL' },
    },
    ...strayBytesRows(reserve),
    {
      name: 'an unknown compression',
      method: reserveStock,
      as: 'orders',
      call: { body: frame(reserve, { compressed: 1 }), headers: { 'grpc-encoding': 'zip' } },
      want: { code: 'UNIMPLEMENTED' },
    },
    {
      name: 'fewer bytes than the frame announces',
      method: reserveStock,
      as: 'orders',
      call: { body: frame(reserve, { length: reserve.length + 10 }) },
      want: { code: 'UNIMPLEMENTED' },
    },
    {
      name: 'none',
      method: reserveStock,
      as: 'orders',
      call: { body: Buffer.alloc(0) },
      want: { code: 'UNIMPLEMENTED' },
    },
    {
      name: 'two',
      method: reserveStock,
      as: 'orders',
      call: { body: Buffer.concat([frame(reserve), frame(reserve)]) },
      want: { code: 'UNIMPLEMENTED' },
    },
  ];
  for (const { name, method, as, call, want } of rows) {
    await t.test(name, async (t) => expectRefusal(t, await send(method, as, call), want));
  }
});

t.test('the call itself', async (t) => {
  const overloaded: Want = { code: 'RESOURCE_EXHAUSTED', reason: 'OVERLOADED' };
  const rows: { name: string; path?: string; headers?: Record<string, string>; want: Want; http?: number }[] = [
    {
      name: 'of a method that is not there',
      path: '/armature.inventory.v1.InventoryService/Steal',
      want: { code: 'UNIMPLEMENTED' },
    },
    {
      name: 'of a service that is not there',
      path: '/armature.theft.v1.TheftService/Steal',
      want: { code: 'UNIMPLEMENTED' },
    },
    { name: 'of a service that lives elsewhere', path: createCategory.path, want: { code: 'UNIMPLEMENTED' } },
    { name: 'of no path', path: '/', want: { code: 'UNIMPLEMENTED' } },
    { name: 'of a path with a line break', path: '/a%0d%0agrpc-status:0', want: { code: 'UNIMPLEMENTED' } },
    { name: 'of a path with a space, which HTTP/2 resets', path: '/a b', want: { code: '' }, http: 0 },
    { name: 'of a path that is no ASCII', path: '/k\u00e4se/\u00ff', want: { code: 'UNIMPLEMENTED' } },
    { name: 'of a path of 4 KiB', path: `/${'x'.repeat(4_096)}`, want: { code: 'UNIMPLEMENTED' } },
    { name: 'as JSON', headers: { 'content-type': 'application/json' }, want: { code: '' }, http: 415 },
    ...['application/grpcXYZ', 'application/grpc-web', 'application/grpc-web+proto', 'application/grpc+json'].map(
      (type) => ({ name: `as ${type}`, headers: { 'content-type': type }, want: { code: '' as const }, http: 415 }),
    ),
    ...['PUT', 'OPTIONS', 'DELETE'].map((method) => ({
      name: `by ${method}`,
      headers: { ':method': method },
      want: { code: '' as const },
      http: 405,
    })),
    { name: 'as a form', headers: { 'content-type': 'text/plain' }, want: { code: '' }, http: 415 },
    { name: 'with headers over 8 KiB', headers: { 'x-much': 'x'.repeat(8_200) }, want: overloaded },
    {
      name: 'with many headers over 8 KiB',
      headers: Object.fromEntries(Array.from({ length: 90 }, (_, i) => [`x-${i}`, 'y'.repeat(90)])),
      want: overloaded,
    },
    { name: 'with a deadline of 1 ns', headers: { 'grpc-timeout': '1n' }, want: { code: 'DEADLINE_EXCEEDED' } },
    { name: 'with a deadline of 0', headers: { 'grpc-timeout': '0S' }, want: { code: 'DEADLINE_EXCEEDED' } },
    ...['1Y', '9999999999H', '-1S', '1.5S', '1e3S', '0x10S', '5S5S', 'S', '5'].map((timeout) => ({
      name: `with the deadline "${timeout}"`,
      headers: { 'grpc-timeout': timeout },
      want: { code: 'INTERNAL' as const },
    })),
    { name: 'without a deadline', want: { code: 'OK' } },
    { name: 'with a deadline far away', headers: { 'grpc-timeout': '99999999H' }, want: { code: 'OK' } },
    { name: 'with a deadline of 597 hours', headers: { 'grpc-timeout': '597H' }, want: { code: 'OK' } },
    { name: 'with a trace that is none', headers: { traceparent: `00-${'z'.repeat(500)}` }, want: { code: 'OK' } },
  ];
  for (const { name, path, headers, want, http = 200 } of rows) {
    await t.test(name, async (t) => {
      const asked = await credentialsOf('developer+ada', batchGetStock);
      const call = { message: stockOf, headers: { ...asked.headers, ...headers } };
      const response = await asked.wire.call(path ?? batchGetStock.path, call);
      t.equal(response.http, http);
      await expectRefusal(t, response, want);
    });
  }

  t.test('with headers over 64 KiB is cut off, and only that', async (t) => {
    const brief = await openWire(shop.service('inventory').grpc, await workloadCertificate('developer'));
    const response = await brief.call(batchGetStock.path, {
      message: stockOf,
      headers: { 'x-much': 'x'.repeat(70_000) },
    });
    t.not(response.code, 'OK');
    t.strictSame(leaksOf(response), []);
    brief.close();
    t.equal((await send(batchGetStock, 'developer+ada', { message: stockOf })).code, 'OK');
  });
});

/** All permissions of a gateway without a user: read the catalogue, register, recover an account. */
const withoutUser = new Set(['catalog.read', 'identity.register', 'identity.recover']);
/** Permissions that a gateway has not even on behalf of a user, so that a token would not help. */
const ofServicesOnly = new Set([
  'access.record',
  'access.watch',
  'inventory.reserve',
  'orders.contact',
  'payments.authorize',
  'payments.capture',
]);

t.test('callers without an identity', async (t) => {
  const refused: Want = { code: '' };
  const unauthenticated: Want = { code: 'UNAUTHENTICATED', reason: 'CREDENTIALS_INVALID' };
  const tokenMissing: Want = { code: 'UNAUTHENTICATED', reason: 'TOKEN_MISSING' };
  const denied: Want = { code: 'PERMISSION_DENIED', reason: 'PERMISSION_DENIED' };
  for (const [name, wire] of Object.entries(wires.strangers)) {
    await t.test(`by their certificate: ${name}`, async (t) => {
      const { headers } = await credentialsOf('developer+ada', batchGetStock);
      const response = await wire.call(batchGetStock.path, { message: stockOf, headers });
      t.ok(response.refused, 'in the handshake');
      await expectRefusal(t, response, refused);
    });
  }
  for (const [name, authorization] of Object.entries(wires.badTokens)) {
    await t.test(`by their token: ${name}`, async (t) => {
      const { wire } = await credentialsOf('developer', batchGetStock);
      const response = await wire.call(batchGetStock.path, { message: stockOf, headers: { authorization } });
      await expectRefusal(t, response, name.includes('8 KiB') ? { code: 'RESOURCE_EXHAUSTED' } : unauthenticated);
    });
  }

  const outsiders: [
    string,
    (contract: ServiceContract, method: MethodContract) => Promise<Want | undefined>,
    RawCallOf,
  ][] = [
    ['without a certificate', async () => refused, (_, port) => ({ wire: port.anonymous })],
    ['with a certificate of another authority', async () => refused, (_, port) => ({ wire: port.foreign })],
    ['with the certificate of a service that may nothing', async () => denied, (_, port) => ({ wire: port.acquirer })],
    [
      'without a token',
      async (_, { permission }) =>
        withoutUser.has(permission) ? undefined : ofServicesOnly.has(permission) ? denied : tokenMissing,
      (_, port) => ({ wire: port.developer }),
    ],
    [
      'with an expired token',
      async () => unauthenticated,
      (expired, port) => ({ wire: port.developer, headers: { authorization: `Bearer ${expired}` } }),
    ],
  ];
  for (const [name, want, how] of outsiders) {
    await t.test(`${name}, at every method`, async (t) => {
      for (const { service, contract } of contracts) {
        for (const method of Object.values(contract.methods)) {
          const wanted = await want(contract, method);
          if (!wanted) continue;
          const { wire, headers = {} } = how(wires.expiredToken, wires.ports(service));
          const response = await wire.call(method.path, { message: randomBytes(8), headers });
          // Only a caller that may call the method learns that the bytes are no message.
          t.equal(response.code, wanted.code, method.path);
          const valid = await wire.call(method.path, { message: Buffer.alloc(0), headers });
          t.equal(valid.code, wanted.code, method.path);
          t.equal(valid.error?.reason, wanted.reason, method.path);
          t.strictSame([...leaksOf(response), ...leaksOf(valid)], [], method.path);
        }
      }
      t.strictSame(await snapshot(), before, 'what has changed');
    });
  }
});

type Ports = ReturnType<typeof wires.ports>;
type RawCallOf = (expired: string, ports: Ports) => { wire: Wire; headers?: Record<string, string> };

/** A small generator of repeatable numbers: the seed is printed; to repeat a run, put it into the code. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

t.test('random bytes', async (t) => {
  const seed = randomInt(2 ** 31);
  t.comment(`seed ${seed}`);
  const below = generator(seed);
  const fine: [MethodContract, string, Buffer][] = [
    [batchGetStock, 'developer+ada', stockOf],
    [listCategories, 'developer+ada', bytesOf(listCategories, { pageSize: 3 })],
    [reserveStock, 'orders', bytesOf(reserveStock, { ...stage.reserved, requestId: 'x' })],
    [placeOrder, 'developer+ada', bytesOf(placeOrder, wish(sku, { lines: [{ sku: 'NOT-HERE', quantity: 1n }] }))],
  ];
  /** Codes that a caller may get for meaningless bytes. */
  const tolerable = ['INVALID_ARGUMENT', 'PERMISSION_DENIED', 'NOT_FOUND'];

  t.test('in place of a message', async (t) => {
    const methods = contracts.flatMap(({ contract }) => Object.values(contract.methods));
    const wrong: string[] = [];
    for (let round = 0; round < 400; round++) {
      const method = methods[below(methods.length)]!;
      const message = Buffer.from(Array.from({ length: below(200) }, () => below(256)));
      const response = await send(method, stageCaller(method), { message, headers: { 'grpc-timeout': '1S' } });
      wrong.push(...faults(method, message, response, tolerable));
    }
    t.strictSame(wrong, []);
    t.strictSame(await snapshot(), before, 'what has changed');
  });

  t.test('in a message', async (t) => {
    const wrong: string[] = [];
    for (let round = 0; round < 400; round++) {
      const [method, as, bytes] = fine[below(fine.length)]!;
      const message = Buffer.from(bytes);
      for (let times = 0; times <= below(3); times++) message[below(message.length)] = below(256);
      const response = await send(method, as, { message: message.subarray(0, message.length - below(3)) });
      wrong.push(...faults(method, message, response, [...tolerable, 'FAILED_PRECONDITION']));
    }
    t.strictSame(wrong, []);
    t.strictSame(await snapshot(), before, 'what has changed');
  });
});

/** Problems of a response to meaningless bytes. */
function faults(method: MethodContract, message: Buffer, response: RawResponse, tolerable: string[]): string[] {
  const context = `${method.name} of ${message.toString('hex')}: ${response.code} ${response.message}`;
  const tolerated = (method.idempotency === null && response.code === 'OK') || tolerable.includes(response.code);
  const leaks = leaksOf({ ...response, replies: [] });
  return tolerated && leaks.length === 0 ? [] : [`${context} ${leaks.join()}`];
}

/** A caller with the permission of the method, so that the bytes are decoded. */
function stageCaller({ permission }: MethodContract): string {
  if (/^(inventory\.(reserve|reservations)|payments)/.test(permission)) return 'orders';
  return permission === 'orders.place' ? 'developer+ada' : 'developer+admin';
}

t.test('after all that', async (t) => {
  for (const service of Object.values(shop.mesh)) {
    t.equal(service.process.exitCode, null, `${service.name} runs`);
    t.notMatch(service.logs(), /eyJ|card_ok|ada@example|cannot go on|"code":"INTERNAL"/, `the log of ${service.name}`);
  }
  const { orderId } = await shop.customer.orders.placeOrder(wish(sku));
  t.ok(orderId, 'the shop is open');
});
