// Runs armature call against a real inventory service, as every kind of caller.

import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RpcError } from '@armature/runtime/errors';
import { createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { decodeJwt } from 'jose';
import t from 'tap';
import { testServers } from '../../../test/support/infra.ts';
import { startService, token } from '../../../test/support/service.ts';
import { tokenIssuer } from '../../../test/support/token.ts';
import { reservePorts } from '../../devmesh/ports.ts';
import { keepToken } from '../../devmesh/sign-in/token-cache.ts';
import { describeMesh, type Ended, startArmature, startCommandHost } from '../testbed.ts';
import { nearest } from './nearest.ts';
import { renderRefusal } from './refusal.ts';
import { parseRequest } from './request.ts';

const inventory = 'armature.inventory.v1.InventoryService';
const dir = mkdtempSync(join(tmpdir(), 'armature-call-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));

const { state } = await testServers();
const service = await startService(t, 'inventory');
const [closedPort] = await reservePorts(state, 1);
describeMesh(join(dir, 'running'), state, {
  inventory: { name: 'inventory', state: 'ready', restarts: 0, grpc: service.grpc },
  catalog: { name: 'catalog', state: 'ready', restarts: 0, grpc: `127.0.0.1:${closedPort}` },
  orders: { name: 'orders', state: 'restarting', restarts: 3 },
});
// Tokens that were kept are used as they are, so no person signs in here: the tests' key stands for identity.
for (const id of ['ada', 'bo', 'admin', 'eve', 'olga']) {
  const issued = { token: await token(id), expiresAt: Date.now() + 3_600_000 };
  keepToken(join(dir, 'running'), tokenIssuer, { kind: 'user', id }, issued);
}
// Another service's address in the place of inventory's must not be believed.
describeMesh(join(dir, 'confused'), state, {
  catalog: { name: 'catalog', state: 'ready', restarts: 0, grpc: service.grpc },
});

interface Asked {
  rpc?: string;
  data?: string;
  as?: string;
  service?: string;
  more?: readonly string[];
  /** The mesh to ask. */
  mesh?: string;
  stdin?: string;
  command?: string;
}

const flag = (name: string, value: string | undefined) => (value === undefined ? [] : [`--${name}`, value]);

const argsOf = ({ command = 'call', more = [], rpc, data, as, service }: Asked) => {
  const flags = [...flag('data', data), ...flag('as', as), ...flag('service', service), ...more];
  return [command, ...(rpc === undefined ? [] : [rpc]), ...flags];
};

/** Starts the command in a process of its own. */
function start(asked: Asked) {
  const started = startArmature(argsOf(asked), join(dir, asked.mesh ?? 'running'));
  started.child.stdin.end(asked.stdin ?? '');
  return started;
}

const host = startCommandHost(t);

/** Runs the command; only one that reads standard input has a process of its own. */
const run = (asked: Asked): Promise<Ended> =>
  asked.stdin === undefined
    ? host.run(argsOf(asked), { ARMATURE_RUN_DIR: join(dir, asked.mesh ?? 'running') })
    : start(asked).ended;

const sku = 'CALL-1';
const lines = [{ sku, quantity: 5 }];
const receive = { request_id: '11111111-1111-4111-8111-111111111111', location_id: 'main', lines };
const reserve = (quantity: number) =>
  JSON.stringify({
    reservation_id: '22222222-2222-4222-8222-222222222222',
    order_id: '33333333-3333-4333-8333-333333333333',
    lines: [{ sku, quantity }],
  });
const stock = JSON.stringify({ skus: [sku] });
writeFileSync(join(dir, 'stock.json'), stock);

t.test('receives stock as staff, naming fields as in the contract or in camel case', async (t) => {
  const first = await run({ rpc: `${inventory}/ReceiveStock`, data: JSON.stringify(receive), as: 'staff:bo' });
  t.equal(first.code, 0, first.stderr);
  t.match(JSON.parse(first.stdout), { levels: [{ sku, locationId: 'main', onHand: '5', available: '5' }] });
  const { request_id: requestId, location_id: locationId } = receive;
  const data = JSON.stringify({ requestId, locationId, lines });
  const again = await run({ rpc: `/${inventory}.ReceiveStock`, data, as: 'staff:bo' });
  t.equal(again.stdout, first.stdout, 'and the request id makes it the same call');
});

const rows: (Asked & { name: string; code?: number; says: RegExp })[] = [
  { name: 'a customer reads', rpc: `${inventory}/BatchGetStock`, data: stock, says: /"onHand": "5"/ },
  {
    name: 'a customer may not write',
    rpc: `${inventory}/ReceiveStock`,
    data: JSON.stringify(receive),
    code: 1,
    says: /^PERMISSION_DENIED: inventory\.receive is not allowed\n {2}reason {6}PERMISSION_DENIED \(runtime/m,
  },
  {
    name: 'an administrator may',
    as: 'admin',
    rpc: `${inventory}/ReceiveStock`,
    data: JSON.stringify({ ...receive, request_id: undefined, location_id: 'other' }),
    says: /note: request_id is filled in as [0-9a-f-]{36}/,
  },
  {
    name: 'staff who are not are pointed out',
    as: 'staff:eve',
    rpc: `${inventory}/ReceiveStock`,
    data: JSON.stringify(receive),
    code: 1,
    says: /does not make eve staff, only bo and admin.*\nPERMISSION_DENIED/,
  },
  {
    name: 'a service calls by itself',
    as: 'service:orders',
    rpc: `${inventory}/ReserveStock`,
    data: reserve(1_000),
    code: 1,
    says: /^FAILED_PRECONDITION: .*\n {2}reason {2,}STOCK_INSUFFICIENT \(inventory\.armature\.local\)\n {2}skus {2,}CALL-1/m,
  },
  {
    name: 'another service may not',
    as: 'service:catalog',
    rpc: `${inventory}/ReserveStock`,
    data: reserve(1),
    code: 1,
    says: /PERMISSION_DENIED/,
  },
  {
    name: 'a call without a user may nothing',
    as: 'nobody',
    rpc: `${inventory}/BatchGetStock`,
    data: stock,
    code: 1,
    says: /^UNAUTHENTICATED: inventory\.read needs an access token.*\n {2}reason {6}TOKEN_MISSING/m,
  },
  {
    name: 'fields are named that break a rule',
    as: 'staff:bo',
    rpc: `${inventory}/ReceiveStock`,
    data: '{"location_id":"Main","lines":[{"sku":"x","quantity":0}]}',
    code: 1,
    says: /^INVALID_ARGUMENT: .*\n(.*\n)* {2}field {2,}location_id: .*\n {2}field {2,}lines\[0\]\.sku: /m,
  },
  {
    name: 'DATA from a file',
    rpc: `${inventory}/BatchGetStock`,
    data: `@${join(dir, 'stock.json')}`,
    says: /"onHand": "5"/,
  },
  {
    name: 'DATA from standard input',
    rpc: `${inventory}/BatchGetStock`,
    data: '-',
    stdin: stock,
    says: /"onHand": "5"/,
  },
  {
    name: 'a file that is not there',
    rpc: `${inventory}/BatchGetStock`,
    data: '@/nowhere.json',
    code: 2,
    says: /^--data @\/nowhere\.json: the file cannot be read\nbecause: ENOENT/,
  },
  {
    name: 'DATA that is no JSON',
    rpc: `${inventory}/BatchGetStock`,
    data: '{skus',
    code: 2,
    says: /^--data is not JSON: /,
  },
  {
    name: 'DATA of the wrong shape',
    rpc: `${inventory}/BatchGetStock`,
    data: '{"skus":"x"}',
    code: 2,
    says: /^--data: .*skus.* expected/,
  },
  {
    name: 'an unknown field',
    rpc: `${inventory}/BatchGetStock`,
    data: '{"sku":["x"]}',
    code: 2,
    says: /^--data: BatchGetStockRequest has no field "sku"; did you mean skus\? It has: skus\./,
  },
  {
    name: 'an unknown field of a line',
    as: 'staff:bo',
    rpc: `${inventory}/ReceiveStock`,
    data: '{"lines":[{"skuu":"x"}]}',
    code: 2,
    says: /StockLine \(lines\[0\]\) has no field "skuu"; did you mean sku\?/,
  },
  {
    name: 'an unknown method',
    rpc: `${inventory}/BatchGetStok`,
    code: 2,
    says: /has no method BatchGetStok; did you mean BatchGetStock\? It has: ReceiveStock, /,
  },
  {
    name: 'an unknown service',
    rpc: 'armature.inventori.v1.InventoryService/BatchGetStock',
    code: 1,
    says: /did you mean armature\.inventory\.v1\.InventoryService\/BatchGetStock\?/,
  },
  { name: 'a service without its package', rpc: 'InventoryService/BatchGetStock', data: stock, says: /"onHand": "5"/ },
  {
    name: 'a service without its package, misspelt',
    rpc: 'InventorService/BatchGetStock',
    code: 1,
    says: /did you mean armature\.inventory\.v1\.InventoryService\/BatchGetStock\?.* These did not respond: .*orders is restarting/,
  },
  {
    name: 'a method without its package, misspelt',
    rpc: 'InventoryService.BatchGetStok',
    code: 2,
    says: /has no method BatchGetStok; did you mean BatchGetStock\?/,
  },
  {
    name: 'a method without its service',
    rpc: 'BatchGetStock',
    code: 1,
    says: /there is no service BatchGetStock; did you mean InventoryService\/BatchGetStock\?/,
  },
  {
    name: 'OpsService of one service',
    rpc: 'OpsService/ListSagas',
    as: 'operator',
    service: 'inventory',
    says: /^\{\}\n$/,
  },
  {
    name: 'OpsService of a service that does not exist',
    rpc: 'OpsService/ListSagas',
    service: 'inventori',
    code: 2,
    says: /^--service inventori: no such service; did you mean inventory\?/,
  },
  {
    name: 'OpsService of one that is not reached',
    rpc: 'armature.ops.v1.OpsService/ListSagas',
    service: 'orders',
    code: 1,
    says: /^orders is restarting; armature status/,
  },
  {
    name: 'a refusal for programs',
    rpc: `${inventory}/ReceiveStock`,
    data: JSON.stringify(receive),
    more: ['--json'],
    code: 1,
    says: /^\{"error":\{"code":"PERMISSION_DENIED","reason":"PERMISSION_DENIED","domain":"runtime\.armature\.local"/,
  },
  {
    name: 'a response for programs, on one line',
    rpc: `${inventory}/BatchGetStock`,
    data: stock,
    more: ['--json'],
    says: /^\{"levels":\[.*\]\}\n$/,
  },
  {
    name: 'methods for programs',
    rpc: 'InventoryService',
    more: ['--json'],
    says: /"service": "armature\.inventory\.v1\.InventoryService",\n {2}"methods": \[\n {4}"ReceiveStock"/,
  },
  {
    name: 'an unknown caller',
    as: 'custmer:ada',
    rpc: `${inventory}/BatchGetStock`,
    code: 2,
    says: /^--as custmer:ada is not understood; did you mean customer\?/,
  },
  {
    name: 'a person who has no account here',
    as: 'customer:adda',
    rpc: `${inventory}/BatchGetStock`,
    code: 2,
    says: /^--as customer:adda: no account of that name exists here; did you mean ada\? There are: ada, eve, /,
  },
  {
    name: 'a program that has no account here',
    as: 'client:accounting',
    rpc: `${inventory}/BatchGetStock`,
    code: 2,
    says: /^--as client:accounting: no account of that name exists here\. There are: reports\./,
  },
  {
    name: 'a person who would have to sign in while identity does not run',
    as: 'customer:grace',
    rpc: `${inventory}/BatchGetStock`,
    data: stock,
    code: 1,
    says: /^identity is not running; armature status tells more/,
  },
  {
    name: 'an unknown service as the caller',
    as: 'service:order',
    rpc: `${inventory}/BatchGetStock`,
    code: 2,
    says: /no such service; did you mean orders\?/,
  },
  {
    name: 'a service that is being restarted',
    rpc: 'armature.orders.v1.OrderService/GetOrder',
    code: 1,
    says: /^orders is restarting; armature status/,
  },
  {
    name: 'a service that does not respond',
    rpc: 'armature.catalog.v1.CatalogService/GetProduct',
    code: 1,
    says: /^UNAVAILABLE: [\s\S]*armature status tells whether/,
  },
  {
    name: 'another service in its place',
    mesh: 'confused',
    rpc: 'armature.catalog.v1.CatalogService/GetProduct',
    code: 1,
    says: /expected service:catalog on the other end, found service:inventory/,
  },
  {
    name: 'no mesh',
    mesh: 'stopped',
    rpc: `${inventory}/BatchGetStock`,
    code: 1,
    says: /^The mesh is not running \(there is no .*mesh\.json\); start it with: armature up\n$/,
  },
  {
    name: 'the methods of a service',
    rpc: inventory,
    says: /ReceiveStock {2}\(needs inventory\.receive, keyed by request_id\)\n {2}Adds delivered units, .*\.\n {4}request_id {3}string\n {4}location_id {2}string\n {4}lines {8}repeated \{sku string, quantity int64\}/,
  },
  {
    name: 'all services, as far as they respond',
    code: 1,
    says: /InventoryService {2}Stock per SKU.*\n {2}ReceiveStock {8}Adds delivered units, [\s\S]*orders: orders is restarting/,
  },
];

t.test('calls and what comes of them', async (t) => {
  for (const row of rows) {
    const { name, code = 0, says } = row;
    const result = await run(row);
    const all = result.stdout + result.stderr;
    t.test(name, async (t) => {
      t.equal(result.code, code, all);
      t.match(all, says);
      t.notMatch(all, /\n {4}at /, 'no stack');
    });
  }
});

t.test('a stream shows messages as they come, until it is interrupted', async (t) => {
  const received = { location_id: 'main', lines: [{ sku: 'CALL-2', quantity: 7 }] };
  const more = () => run({ rpc: `${inventory}/ReceiveStock`, data: JSON.stringify(received), as: 'staff:bo' });
  t.equal((await more()).code, 0);
  const watching = start({ rpc: `${inventory}/WatchStock`, data: '{"skus":["CALL-2"]}' });
  const shown = async (units: number) => {
    while (!watching.output.stdout.includes(`"onHand": "${units}"`)) {
      const end = await Promise.race([once(watching.child.stdout, 'data').then(() => undefined), watching.ended]);
      if (end) throw new Error(`it ended before it showed ${units}: ${end.stdout}${end.stderr}`);
    }
  };
  await shown(7);
  t.equal((await more()).code, 0);
  await shown(14);
  watching.child.kill('SIGINT');
  const { code, stderr } = await watching.ended;
  t.equal(code, 0);
  t.equal(stderr, '');
});

t.test('a token for other programs', async (t) => {
  const printed = await start({ command: 'token', as: 'staff:bo' }).ended;
  t.match(decodeJwt(printed.stdout.trim()), { sub: 'bo', aud: 'armature' });
  const refused = await run({ command: 'token', as: 'nobody' });
  t.match(refused, {
    code: 2,
    stdout: '',
    stderr: /--as nobody calls without a token; name a person or a program that signs in/,
  });
});

t.test('a refusal with everything that it can bring', async (t) => {
  const error = new RpcError('RESOURCE_EXHAUSTED', 'OVERLOADED', 'too many calls', {
    domain: 'runtime.armature.local',
    metadata: { pool: 'database' },
    details: {
      fieldViolations: [{ field: 'lines', description: 'are too many', reason: 'max' }],
      retryDelayMs: 200,
      quota: { subject: 'calls', description: 'at most 5' },
    },
  });
  t.same(renderRefusal(error), [
    'RESOURCE_EXHAUSTED: too many calls',
    '  reason  OVERLOADED (runtime.armature.local)',
    '  field   lines: are too many',
    '  pool    database',
    '  limit   calls: at most 5',
    '  retry   after 200 ms',
  ]);
});

t.test('requests', async (t) => {
  const bytes = readFileSync(fileURLToPath(import.meta.resolve('@armature/proto/descriptors.binpb')));
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
  const parse = (text: string, type: string) => parseRequest(text, registry.getMessage(type)!, registry);
  t.match(parse('{"amount_minor":9007199254740993}', 'armature.type.v1.Money'), { amountMinor: 9007199254740993n });
  t.match(parse('', 'armature.type.v1.Money'), { amountMinor: 0n });
  const list = 'armature.orders.v1.ListOrdersRequest';
  t.match(parse('{"state":"ORDER_STATE_COMPLETED"}', list), { state: 3 });
  t.match(parse('{"state":77}', list), { state: 77 }, 'an unknown number is for the service to refuse');
  t.throws(() => parse('{"state":"COMPLETD"}', list), {
    message: /no value "COMPLETD"; did you mean ORDER_STATE_COMPL/,
  });
  t.throws(() => parse('[]', list), {
    message: 'data: the request must be an object, the fields of ListOrdersRequest',
  });
  const mask = parse('{"update_mask":"title,description"}', 'armature.catalog.v1.UpdateProductRequest');
  t.match(mask, { updateMask: { paths: ['title', 'description'] } });
});

t.test('the nearest name', async (t) => {
  for (const [word, wanted] of [
    ['GetOdrer', 'GetOrder'],
    ['getorder', 'GetOrder'],
    ['ListOrder', 'ListOrders'],
    ['Frobnicate', undefined],
  ] as const) {
    t.equal(nearest(word, ['GetOrder', 'ListOrders', 'CancelOrder']), wanted, word);
  }
});
