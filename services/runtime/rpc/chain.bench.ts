/**
 * Measures the cost of the chain: CPU time of the server per call, bare grpc-js beside the full chain, on the same TLS
 * transport and the same method, alternately. Run it with `node services/runtime/rpc/chain.bench.ts`.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { testServers } from '../../../test/support/infra.ts';
import { token, workloadCertificate } from '../../../test/support/service.ts';
import { tokenFiles } from '../../../test/support/token.ts';
import { decisionCounter } from '../authz/authorize.ts';
import { denials } from '../authz/denials.ts';
import { loadPolicy } from '../authz/policy.ts';
import type { Interceptor } from '../context/call-context.ts';
import { keyFile } from '../credentials/jwks.ts';
import { tokenVerifier } from '../credentials/tokens.ts';
import { createLogger } from '../telemetry/log.ts';
import { createRegistry } from '../telemetry/metrics.ts';
import { admission } from './admission.ts';
import { serverChain } from './chain.ts';
import { createClient } from './client.ts';
import { methodDefinition } from './method-definition.ts';
import { rpcMetrics } from './metrics.ts';
import { implement, metadataBytesOf, peerOf, startServer } from './server.ts';

const rounds = 5;
const callsPerRound = 6_000;
const inFlight = 64;
const reply = { levels: [], unknownSkus: ['A'] };

const role = process.argv[2];
if (role === 'bare') await serveBare();
else if (role === 'chain') await serveChain();
else await compare();

async function compare(): Promise<void> {
  const servers = { bare: fork(import.meta.filename, ['bare']), chain: fork(import.meta.filename, ['chain']) };
  const [tls, ada] = [await workloadCertificate('developer'), await token('ada')];
  const clients = {
    bare: await clientFor(servers.bare, tls, ada),
    chain: await clientFor(servers.chain, tls, ada),
  };
  const costs: Record<'bare' | 'chain', number[]> = { bare: [], chain: [] };
  for (let round = 0; round <= rounds; round += 1) {
    for (const name of ['bare', 'chain'] as const) {
      const cost = await measure(servers[name], clients[name]);
      if (round > 0) costs[name].push(cost);
    }
  }
  const [bare, chain] = [median(costs.bare), median(costs.chain)];
  console.log(`bare grpc-js   ${bare.toFixed(1)} µs of server CPU per call`);
  console.log(`the full chain ${chain.toFixed(1)} µs of server CPU per call`);
  console.log(`ratio          ${(bare / chain).toFixed(3)} (1 means the chain costs nothing)`);
  for (const name of ['bare', 'chain'] as const) {
    clients[name].close();
    servers[name].kill();
  }
}

type InventoryClient = ReturnType<typeof createClient<typeof InventoryServiceContract>>;

async function clientFor(
  server: ChildProcess,
  tls: Awaited<ReturnType<typeof workloadCertificate>>,
  ada: string,
): Promise<InventoryClient> {
  const [address] = (await once(server, 'message')) as [string];
  return createClient(InventoryServiceContract, {
    addresses: [address],
    tls,
    expectWorkload: 'service:inventory',
    token: () => ada,
  });
}

/** Microseconds of the server's CPU per call. */
async function measure(server: ChildProcess, client: InventoryClient): Promise<number> {
  const cpu = async () => {
    server.send('cpu');
    const [micros] = (await once(server, 'message')) as [number];
    return micros;
  };
  const before = await cpu();
  let left = callsPerRound;
  const sendInTurn = async () => {
    while (left > 0) {
      left -= 1;
      await client.batchGetStock({ skus: ['A'] });
    }
  };
  await Promise.all(Array.from({ length: inFlight }, sendInTurn));
  return ((await cpu()) - before) / callsPerRound;
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

function report(address: string): void {
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    process.send?.(user + system);
  });
  process.send?.(address);
}

async function serveBare(): Promise<void> {
  const { certFile, keyFile, caFile } = await workloadCertificate('inventory');
  const server = new Server();
  const { path, request, response } = InventoryServiceContract.methods.batchGetStock;
  const definition = { batchGetStock: methodDefinition(path, request, response) };
  server.addService(definition, {
    batchGetStock: (_call: unknown, callback: (error: null, value: typeof reply) => void) => callback(null, reply),
  });
  const pair = { cert_chain: readFileSync(certFile), private_key: readFileSync(keyFile) };
  const credentials = ServerCredentials.createSsl(readFileSync(caFile), [pair], true);
  server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
    if (error) throw error;
    report(`127.0.0.1:${port}`);
  });
}

async function serveChain(): Promise<void> {
  const { state } = await testServers();
  const tls = await workloadCertificate('inventory');
  const log = createLogger('bench', 'info');
  const registry = createRegistry('bench');
  const policy = await loadPolicy('deploy/policy.csv');
  const { verify } = tokenVerifier({
    issuer: 'https://identity.armature.local',
    audience: 'armature',
    keys: keyFile(tokenFiles(state).jwks),
  });
  let workloadAt = (_peer: string): string | null => null;
  const parts = {
    admission: admission(2_000, metadataBytesOf),
    metrics: rpcMetrics(registry, 'server'),
    tracing: ((next) => next) satisfies Interceptor,
    authentication: { workloadOf: (call: Parameters<typeof peerOf>[0]) => workloadAt(peerOf(call)), verify },
    decide: policy.decide,
    decisions: decisionCounter(registry),
    denials: denials(),
    db: null as never,
    domain: 'inventory.armature.local',
  };
  const refuse = () => Promise.reject(new Error('not part of the benchmark'));
  const registration = implement(InventoryServiceContract, {
    batchGetStock: async () => reply,
    receiveStock: refuse,
    adjustStock: refuse,
    reserveStock: refuse,
    getReservation: refuse,
    commitReservation: refuse,
    releaseReservation: refuse,
    async *watchStock() {},
  });
  const server = await startServer({
    address: '127.0.0.1:0',
    tls,
    trustDomain: 'armature.local',
    registrations: [registration],
    chain: (method) => serverChain(parts, method),
    log,
  });
  workloadAt = server.workloadAt;
  report(server.address);
}
