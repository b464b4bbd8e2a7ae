import type { Codec, MethodContract, MethodKind, ServiceContract } from '@armature/proto/contract.ts';
import { decisionCounter, denials, policyOf } from '@armature/runtime/authz';
import { type Client, createClient } from '@armature/runtime/client';
import type { Interceptor } from '@armature/runtime/context';
import { keyFile, type TlsFiles } from '@armature/runtime/credentials';
import type { Database } from '@armature/runtime/db';
import {
  admission,
  type Implementation,
  implement,
  metadataBytesOf,
  peerOf,
  type RpcServer,
  rpcMetrics,
  serverChain,
  startServer,
} from '@armature/runtime/rpc';
import { createRegistry } from '@armature/runtime/telemetry';
import { tokenVerifier } from '@armature/runtime/tokens';
import { pino } from 'pino';
import { trustDomain } from '../../scripts/devmesh/certificates.ts';
import { type Teardown, testServers } from '../support/infra.ts';
import { workloadCertificate } from '../support/service.ts';
import { tokenFiles, tokenIssuer } from '../support/token.ts';

/** The only message of these contracts. */
export interface Note {
  text: string;
}

const codec: Codec<Note> = {
  encode: ({ text }) => ({ finish: () => Buffer.from(text.toWellFormed()) }),
  decode: (bytes) => ({ text: Buffer.from(bytes).toString() }),
  fromPartial: ({ text = '' }) => ({ text }),
  fromJSON: (value) => ({ text: String(value) }),
  toJSON: ({ text }) => text,
};

const service = 'armature.hops.v1.HopService';

export const deadlines = { defaultMs: 800, maxMs: 2_000 };

function method<K extends MethodKind>(name: string, kind: K): MethodContract<Note, Note, K> {
  return {
    service,
    name,
    path: `/${service}/${name}`,
    kind,
    permission: 'hops.ask',
    owner: null,
    target: null,
    idempotency: null,
    audit: false,
    deadline: deadlines,
    request: codec,
    response: codec,
    validate: () => {},
  };
}

/** A contract made by hand, for two services whose handlers do just what a test needs. */
export const HopContract = {
  name: service,
  domain: 'hops.armature.local',
  methods: { ask: method('Ask', 'unary'), watch: method('Watch', 'server_stream') },
  consumes: [],
  serviceConfig: { loadBalancingConfig: [{ round_robin: {} }], methodConfig: [] },
} as const satisfies ServiceContract;

export type HopClient = Client<typeof HopContract>;

const policy = policyOf('p, workload:developer, hops.ask, any\np, service:orders, hops.ask, any\n');

const passOn: Interceptor = (next) => next;

export interface Hop extends RpcServer {
  /** Lines of its log so far, from level info. */
  readonly log: Record<string, unknown>[];
}

/**
 * Serves the contract with the interceptors of a real service and the certificate of a workload; the tests' own by
 * default.
 */
export async function startHop(
  t: Teardown,
  workload: string,
  db: Database,
  implementation: Implementation<typeof HopContract>,
  tls?: TlsFiles,
  contract: typeof HopContract = HopContract,
): Promise<Hop> {
  const { state } = await testServers();
  const lines: Record<string, unknown>[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line));
  const log = pino({ serializers: { err: pino.stdSerializers.errWithCause } }, { write });
  const registry = createRegistry(workload);
  const { verify } = tokenVerifier({
    issuer: tokenIssuer,
    audience: 'armature',
    keys: keyFile(tokenFiles(state).jwks),
  });
  let workloadAt: RpcServer['workloadAt'] = () => null;
  const parts = {
    admission: admission(100, metadataBytesOf),
    metrics: rpcMetrics(registry, 'server'),
    tracing: passOn,
    authentication: { workloadOf: (call: Parameters<typeof peerOf>[0]) => workloadAt(peerOf(call)), verify },
    decide: policy.decide,
    decisions: decisionCounter(registry),
    denials: denials(),
    db,
    domain: HopContract.domain,
  };
  const server = await startServer({
    address: '127.0.0.1:0',
    tls: tls ?? (await workloadCertificate(workload)),
    trustDomain,
    registrations: [implement(contract, implementation)],
    chain: (method) => serverChain(parts, method),
    log,
  });
  workloadAt = server.workloadAt;
  t.teardown(() => server.drain(1_000));
  return { ...server, log: lines };
}

/** A client of a hop, with the certificate of `as`. */
export async function hopClient(
  t: Teardown,
  hop: { address: string },
  workload: string,
  as: string,
  tls?: TlsFiles,
  contract: typeof HopContract = HopContract,
) {
  const client = createClient(contract, {
    addresses: [hop.address],
    tls: tls ?? (await workloadCertificate(as)),
    expectWorkload: `service:${workload}`,
  });
  t.teardown(() => client.close());
  return client;
}
