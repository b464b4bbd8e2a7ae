// Calls a method of the running mesh as anybody: make call RPC=<package.Service/Method> DATA='{...}' AS=customer:ada.
// Knows no contract: what can be called and how, it learns from the service by reflection.
import { randomUUID } from 'node:crypto';
import { RpcError } from '@armature/runtime/errors/errors.ts';
import { fromBinary, type JsonValue, type Message, toBinary, toJson } from '@bufbuild/protobuf';
import type { Mesh } from '../devmesh/mesh.ts';
import { runningMesh } from '../devmesh/running-mesh.ts';
import { listService, showService } from './call/listing.ts';
import { doubtAbout, type Principal, parsePrincipal } from './call/principal.ts';
import { type Promises, promisesOf } from './call/reflection.ts';
import { renderRefusal } from './call/refusal.ts';
import { parseRequest, readData } from './call/request.ts';
import { findAll, findTarget, type Target } from './call/target.ts';
import { tokenFor } from './call/tokens.ts';

const width = process.stdout.columns ?? 120;
/** For methods whose contract names no deadline. */
const fallbackTimeoutMs = 10_000;

const say = (line: string) => console.error(line);

async function main({ RPC: rpc = '', DATA: data = '', AS: as = '' }: NodeJS.ProcessEnv): Promise<void> {
  const mesh = runningMesh();
  const said = as || 'customer:ada';
  const principal = parsePrincipal(said, mesh);
  if (rpc === '') return listEverything(mesh, principal);
  const doubt = doubtAbout(said, principal, mesh);
  if (doubt) say(`note: ${doubt}`);
  const target = await findTarget(rpc, mesh, principal);
  try {
    if (target.method) await call(target as CallableTarget, readData(data), mesh, principal);
    else for (const line of showService(target.service, target.registry, width)) console.log(line);
  } finally {
    target.connection.close();
  }
}

async function listEverything(mesh: Mesh, principal: Principal): Promise<void> {
  const { found, silent } = await findAll(mesh, principal);
  for (const service of found) console.log([...listService(service, width), ''].join('\n'));
  for (const line of silent) say(line);
  console.log('Fields of a service:  make call RPC=armature.orders.v1.OrderService');
  console.log(
    `A call:               make call RPC=armature.orders.v1.OrderService/ListOrders DATA='{"customer_id":"ada"}' AS=customer:ada`,
  );
  if (silent.length > 0) process.exitCode = 1;
}

type CallableTarget = Target & Required<Pick<Target, 'method'>>;

async function call(target: CallableTarget, text: string, mesh: Mesh, principal: Principal): Promise<void> {
  const { connection, registry, service, method } = target;
  const request = parseRequest(text, method.input, registry);
  const promises = promisesOf(method, registry);
  fillInKey(request, target, promises);
  const { defaultMs = fallbackTimeoutMs } = promises.deadline ?? {};
  const token = principal.owner ? await tokenFor(principal.owner, mesh) : undefined;
  const ending = new AbortController();
  process.once('SIGINT', () => ending.abort());
  const sending = { timeoutMs: defaultMs, token, signal: ending.signal };
  const path = `/${service.typeName}/${method.name}`;
  const message = toBinary(method.input, request);
  const show = (bytes: Uint8Array) => {
    const json: JsonValue = toJson(method.output, fromBinary(method.output, bytes), { registry });
    console.log(JSON.stringify(json, null, 2));
  };
  if (method.methodKind === 'unary') show(await connection.unary(path, message, sending));
  else if (method.methodKind === 'server_streaming') {
    for await (const reply of connection.stream(path, message, sending)) show(reply);
  } else throw new Error(`${path} streams requests, which make call cannot; use buf curl or grpcurl`);
}

/** A method that is keyed needs a request id. Making one up is fine, as long as whoever calls learns it. */
function fillInKey(request: Message, { method }: CallableTarget, { idempotency }: Promises): void {
  const field = method.input.fields.find((one) => one.name === idempotency?.key);
  const fields = request as Message & Record<string, unknown>;
  if (!field || fields[field.localName] !== '') return;
  const id = randomUUID();
  fields[field.localName] = id;
  say(`note: ${field.name} is filled in as ${id}; send it again to be answered again without a second effect`);
}

// A reader such as head that has enough is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

await main(process.env).catch((error: unknown) => {
  if (error instanceof RpcError) for (const line of renderRefusal(error)) say(line);
  else for (let e = error; e instanceof Error; e = e.cause) say(e === error ? e.message : `because: ${e.message}`);
  process.exitCode = 1;
});
