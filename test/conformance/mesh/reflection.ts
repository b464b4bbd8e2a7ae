import { HealthCheckRequest, HealthCheckResponse } from '@armature/proto/grpc/health/v1/health.ts';
import { ServerReflectionRequest, ServerReflectionResponse } from '@armature/proto/grpc/reflection/v1/reflection.ts';
import { fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import t, { type Test } from 'tap';
import { buf, root } from '../../../scripts/protoc-gen-armature/buf.ts';
import { developerCredentials, type RunningService, token } from '../../support/service.ts';
import { inLongTier, long } from '../../support/tier.ts';
import { contracts } from '../contracts.ts';
import { leaksOf } from '../leaks.ts';
import { metricsOf } from '../metrics-page.ts';
import { openWire, type Wire } from '../wire.ts';
import { shop } from './shop.ts';

const { mesh } = shop;
const developer = await developerCredentials();
const bearer = async (user: string) => ({ authorization: `Bearer ${await token(user)}` });
const [bo, admin] = [await bearer('bo'), await bearer('admin')];

/** A read-only call of each service, and a field that its response must have. */
const calls: { method: string; data: string; response: RegExp }[] = [
  {
    method: 'armature.catalog.v1.CatalogService/BatchGetVariants',
    data: '{"skus":["NONE"]}',
    response: /"unknownSkus"/,
  },
  {
    method: 'armature.inventory.v1.InventoryService/BatchGetStock',
    data: '{"skus":["NONE"]}',
    response: /"unknownSkus"/,
  },
  { method: 'armature.payments.v1.LedgerService/GetTrialBalance', data: '{}', response: /"balanced":\s*true/ },
  { method: 'armature.orders.v1.OrderService/ListOrders', data: '{}', response: /"orders":\s*\[/ },
  {
    method: 'armature.notifications.v1.NotificationService/ListDeliveries',
    data: '{}',
    response: /"deliveries":\s*\[\]/,
  },
];

const reflectionPath = (version: string) => `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
const listServices = ServerReflectionRequest.encode({
  host: '',
  messageRequest: { $case: 'listServices', value: '' },
}).finish();

/** The services that `buf curl` calls: starting it takes seconds. Everything else is asked of each service. */
const curled = long ? contracts.map(({ service }) => service) : ['payments', 'orders'];
const services = [...new Set(contracts.map(({ service }) => service))].flatMap((name) => mesh[name] ?? []);

for (const service of services) {
  await t.test(service.name, async (t) => {
    const own = contracts.filter((one) => one.service === service.name).map(({ contract }) => contract);
    const before = await metricsOf(service.admin);
    const known = await openWire(service.grpc, developer);
    const stranger = await openWire(service.grpc, { ca: developer.ca });
    t.teardown(() => {
      known.close();
      stranger.close();
    });
    await t.test('buf curl lists and calls it', curled.includes(service.name) ? {} : inLongTier, async (t) => {
      for (const protocol of ['grpc-v1', 'grpc-v1alpha']) {
        const listed = curl(service, '--reflect-protocol', protocol, '--list-services').trim().split('\n');
        for (const { name } of own) t.ok(listed.includes(name), `${name} by ${protocol}`);
      }
      const methods = curl(service, '--list-methods');
      for (const { methods: all } of own) {
        for (const { path } of Object.values(all)) t.ok(methods.includes(path.slice(1)), path);
      }
      for (const { method, data, response } of calls.filter((one) =>
        own.some(({ name }) => one.method.startsWith(name)),
      )) {
        const header = `authorization: ${bo.authorization}`;
        t.match(curl(service, '-H', header, '-d', data, '--emit-defaults', `/${method}`), response, method);
      }
    });

    await t.test('descriptors carry the comments of the contracts', async (t) => {
      for (const version of ['v1', 'v1alpha']) {
        for (const contract of own) {
          const files = await describe(known, version, contract.name);
          const home = files.find((file) => file.service.some((one) => contract.name.endsWith(`.${one.name}`)));
          const comments = home?.sourceCodeInfo?.location.filter(({ path }) => path[0] === 6 && path[2] === 2) ?? [];
          const commented = comments.filter(({ leadingComments }) => leadingComments?.trim());
          const all = home?.service.flatMap((one) => one.method) ?? [];
          t.equal(commented.length, all.length, `every method of ${home?.name} by ${version}`);
          t.ok(
            files.some(({ name }) => name === 'buf/validate/validate.proto'),
            'with all their dependencies',
          );
        }
      }
    });

    await t.test('callers without a certificate are refused', async (t) => {
      for (const version of ['v1', 'v1alpha']) {
        const response = await stranger.call(reflectionPath(version), { message: listServices });
        t.match(response, { refused: true, replies: [] });
        t.strictSame(leaksOf(response), []);
      }
    });

    await t.test('unknown symbols get NOT_FOUND', async (t) => {
      const ask = async (messageRequest: ServerReflectionRequest['messageRequest']) => {
        const message = ServerReflectionRequest.encode({ host: '', messageRequest }).finish();
        const { replies, code } = await known.call(reflectionPath('v1'), { message });
        return { code, said: ServerReflectionResponse.decode(replies[0]!).messageResponse };
      };
      for (const value of ['no.such.Thing', '', '.', 'armature', 'toString', '../../../etc/passwd']) {
        for (const $case of ['fileContainingSymbol', 'fileByFilename'] as const) {
          const { code, said } = await ask({ $case, value });
          t.match({ code, said }, { code: 'OK', said: { $case: 'errorResponse', value: { errorCode: 5 } } }, value);
        }
      }
      t.match(await ask(undefined), { said: { $case: 'errorResponse', value: { errorCode: 3 } } });
    });

    await t.test('health', async (t) =>
      checkHealth(
        t,
        known,
        own.map(({ name }) => name),
      ),
    );

    await t.test('channelz is for administrators', async (t) => {
      const rows = [
        { name: 'an administrator', wire: known, headers: admin, code: 'OK' },
        { name: 'staff', wire: known, headers: bo, code: 'PERMISSION_DENIED' },
        { name: 'a caller without a token', wire: known, headers: {}, code: 'UNAUTHENTICATED' },
        { name: 'an administrator without a certificate', wire: stranger, headers: admin, code: '' },
      ];
      for (const { name, wire, headers, code } of rows) {
        for (const method of ['GetServers', 'GetTopChannels']) {
          const response = await wire.call(`/grpc.channelz.v1.Channelz/${method}`, { headers });
          t.equal(response.code, code, `${method} as ${name}`);
          if (code !== 'OK') t.strictSame(leaksOf(response), []);
        }
      }
    });

    await t.test('metrics', async (t) => checkMetrics(t, service, before));
  });
}

type Page = Awaited<ReturnType<typeof metricsOf>>;

/** Checks that since `before` the service has counted one call of each method that `buf curl` calls. */
async function checkMetrics(t: Test, service: RunningService, before: Page) {
  const page = await metricsOf(service.admin);
  t.match(page.type, /^text\/plain/);
  t.strictSame(page.problems, []);
  const own = contracts.filter((one) => one.service === service.name && curled.includes(one.service));
  for (const { method } of calls.filter((one) => own.some(({ contract }) => one.method.startsWith(contract.name)))) {
    const [grpc_service = '', grpc_method = ''] = method.split('/');
    const counted = (name: string, more: Record<string, string> = {}) => {
      const wanted = { grpc_service, grpc_method, grpc_type: 'unary', ...more };
      const [now = 0, then = 0] = [page, before].map(({ samples }) =>
        samples
          .filter((one) => one.name === name && Object.entries(wanted).every(([key, text]) => one.labels[key] === text))
          .reduce((sum, { value }) => sum + value, 0),
      );
      return now - then;
    };
    t.equal(counted('grpc_server_started_total'), 1, method);
    t.equal(counted('grpc_server_handled_total', { grpc_code: 'OK' }), 1);
    t.equal(counted('grpc_server_handled_total'), 1);
    t.equal(counted('grpc_server_handling_seconds_count'), 1);
    t.ok(counted('grpc_server_handling_seconds_sum') < 5, 'in seconds');
  }
  for (const page of ['/healthz', '/readyz']) {
    t.equal((await fetch(`http://${service.admin}${page}`)).status, 200, page);
  }
}

/** The file descriptors of a symbol, as a reflection service sends them. */
async function describe(wire: Wire, version: string, symbol: string) {
  const message = ServerReflectionRequest.encode({
    host: '',
    messageRequest: { $case: 'fileContainingSymbol', value: symbol },
  }).finish();
  const { replies } = await wire.call(reflectionPath(version), { message });
  const said = ServerReflectionResponse.decode(replies[0]!).messageResponse;
  if (said?.$case !== 'fileDescriptorResponse') throw new Error(`${symbol} is not described: ${JSON.stringify(said)}`);
  return said.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
}

/** `buf curl` with the development certificate. The last argument may be a method's path. */
function curl(service: RunningService, ...more: string[]): string {
  const path = more.at(-1)?.startsWith('/') ? more.pop() : '';
  const credentials = ['--cacert', developer.caFile, '--cert', developer.certFile, '--key', developer.keyFile];
  return buf(root, 'curl', '--protocol', 'grpc', ...credentials, ...more, `https://${service.grpc}${path}`);
}

/** Checks the health service of a service with these gRPC services. */
async function checkHealth(t: Test, known: Wire, names: readonly string[]): Promise<void> {
  const check = (name: string) =>
    known.call('/grpc.health.v1.Health/Check', { message: HealthCheckRequest.encode({ service: name }).finish() });
  for (const name of ['', ...names]) {
    const { code, replies } = await check(name);
    t.match({ code, status: HealthCheckResponse.decode(replies[0]!).status }, { code: 'OK', status: 1 }, name);
  }
  t.match(await check('no.such.Service'), { code: 'NOT_FOUND' });
  const watch = async (name: string) => {
    const message = HealthCheckRequest.encode({ service: name }).finish();
    const headers = { 'grpc-timeout': '300m' };
    const { code, replies } = await known.call('/grpc.health.v1.Health/Watch', { message, headers });
    return { code, statuses: replies.map((reply) => HealthCheckResponse.decode(reply).status) };
  };
  t.strictSame(await watch(names[0]!), { code: 'DEADLINE_EXCEEDED', statuses: [1] });
  t.strictSame(await watch('no.such.Service'), { code: 'DEADLINE_EXCEEDED', statuses: [3] });
}
