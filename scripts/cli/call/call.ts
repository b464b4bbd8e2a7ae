// Calls a method of the running mesh. Knows no contract: it learns from the service by reflection what can be called.
import { randomUUID } from 'node:crypto';
import { RpcError } from '@armature/runtime/errors';
import { fromBinary, type JsonValue, type Message, toBinary, toJson } from '@bufbuild/protobuf';
import { callableServices } from '../../../services/manifest.ts';
import type { Mesh } from '../../devmesh/mesh.ts';
import { runningMesh } from '../../devmesh/running-mesh.ts';
import type { Invocation } from '../command.ts';
import { printJson } from '../json.ts';
import { terminalWidth, withNotice } from '../terminal.ts';
import { listService, showService } from './listing.ts';
import { knownName } from './nearest.ts';
import { doubtAbout, type Principal, parsePrincipal } from './principal.ts';
import { type Promises, promisesOf } from './reflection.ts';
import { parseRequest, readData } from './request.ts';
import { findAll, findTarget, type Target } from './target.ts';
import { tokenFor } from './tokens.ts';

/** For methods whose contract names no deadline. */
const fallbackTimeoutMs = 10_000;
/** What signing in and reflection may take besides the call itself. */
const preparationMs = 30_000;

const note = (line: string) => console.error(`note: ${line}`);

export interface CallOptions {
  data?: string;
  as: string;
  service?: string;
}

/** Calls a method; lists the methods of a service where only that is named, and everything where nothing is. */
export async function callMethod(rpc: string, options: CallOptions, invocation: Invocation): Promise<void> {
  const principal = parsePrincipal(options.as);
  if (options.service !== undefined) {
    knownName(options.service, callableServices, `--service ${options.service}: no such service`);
  }
  const mesh = runningMesh();
  if (rpc === '') return listEverything(mesh, principal, options.service, invocation);
  const doubt = doubtAbout(options.as, principal, mesh);
  if (doubt) note(doubt);
  invocation.deadline.waitingFor = 'reflection';
  const target = await withNotice('reflection', () => findTarget(rpc, mesh, principal, options.service));
  try {
    if (target.method)
      await call(target as CallableTarget, readData(options.data ?? ''), { mesh, principal, invocation });
    else if (invocation.json) printJson({ service: target.service.typeName, methods: methodNames(target.service) });
    else for (const line of showService(target.service, target.registry, columns())) console.log(line);
  } finally {
    target.connection.close();
  }
}

const columns = () => Math.min(terminalWidth(), 120);
const methodNames = ({ methods }: Target['service']) => methods.map(({ name }) => name);

async function listEverything(
  mesh: Mesh,
  principal: Principal,
  only: string | undefined,
  invocation: Invocation,
): Promise<void> {
  invocation.deadline.waitingFor = 'reflection';
  const { found, silent } = await withNotice('reflection of all services', () => findAll(mesh, principal, only));
  if (silent.length > 0) process.exitCode = 1;
  for (const line of silent) console.error(line);
  if (invocation.json) {
    const list = found.map(({ home, service }) => ({ home, service: service.typeName, methods: methodNames(service) }));
    printJson(list);
    return;
  }
  for (const { service } of found) console.log([...listService(service, columns()), ''].join('\n'));
  console.log('Fields of a service:  armature call OrderService');
  console.log(
    `A call:               armature call OrderService/ListOrders --data '{"customer_id":"ada"}' --as customer:ada`,
  );
}

type CallableTarget = Target & Required<Pick<Target, 'method'>>;

interface Circumstances {
  mesh: Mesh;
  principal: Principal;
  invocation: Invocation;
}

async function call(
  target: CallableTarget,
  text: string,
  { mesh, principal, invocation }: Circumstances,
): Promise<void> {
  const { connection, registry, service, method } = target;
  const { deadline, deadlineChosen, json } = invocation;
  const request = parseRequest(text, method.input, registry);
  const promises = promisesOf(method, registry);
  fillInKey(request, target, promises);
  const { defaultMs = fallbackTimeoutMs } = promises.deadline ?? {};
  if (!deadlineChosen) deadline.extendTo(defaultMs + preparationMs);
  const { owner } = principal;
  const token = owner ? await withNotice('identity', () => tokenFor(owner, mesh)) : undefined;
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort());
  const timeoutMs = deadlineChosen ? deadline.remainingMs() : defaultMs;
  const sending = { timeoutMs, token, signal: interrupt.signal };
  const path = `/${service.typeName}/${method.name}`;
  const message = toBinary(method.input, request);
  const show = (bytes: Uint8Array) => {
    const value: JsonValue = toJson(method.output, fromBinary(method.output, bytes), { registry });
    printJson(value, { compact: json });
  };
  deadline.waitingFor = path;
  if (method.methodKind === 'unary') {
    const unary = (bearer = token) =>
      withNotice(path, () => connection.unary(path, message, { ...sending, token: bearer }));
    show(
      await unary().catch(async (error: unknown) => {
        if (!owner || !(error instanceof RpcError) || error.reason !== 'SIGN_IN_TOO_OLD') throw error;
        note(`${owner.id} signs in again: ${error.message}`);
        return unary(await tokenFor(owner, mesh, { fresh: true }));
      }),
    );
  } else if (method.methodKind === 'server_streaming') {
    for await (const reply of connection.stream(path, message, sending)) show(reply);
  } else throw new Error(`${path} streams requests, which armature call cannot; use buf curl or grpcurl`);
}

/** A method that is keyed needs a request id. One that is made up here is told to the caller, who may repeat the call. */
function fillInKey(request: Message, { method }: CallableTarget, { idempotency }: Promises): void {
  const field = method.input.fields.find((one) => one.name === idempotency?.key);
  const fields = request as Message & Record<string, unknown>;
  if (!field || fields[field.localName] !== '') return;
  const id = randomUUID();
  fields[field.localName] = id;
  note(`${field.name} is filled in as ${id}; send it again for the same response without a second effect`);
}
