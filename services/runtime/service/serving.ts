import type { ServiceContract } from '@armature/proto/contract.ts';
import type { Config, runtimeVariables } from '../config/config.ts';
import type { TlsWatch } from '../credentials/tls-files.ts';
import { tokenVerifier } from '../credentials/tokens.ts';
import type { Database } from '../db/database.ts';
import { requestHasher } from '../idempotency/request-hash.ts';
import { admission } from '../rpc/admission.ts';
import { serverChain } from '../rpc/chain.ts';
import { channelz } from '../rpc/channelz.ts';
import type { health } from '../rpc/health.ts';
import { rpcMetrics } from '../rpc/metrics.ts';
import { reflection } from '../rpc/reflection.ts';
import { metadataBytesOf, peerOf, type Registration, startServer } from '../rpc/server.ts';
import type { Logger } from '../telemetry/log.ts';
import { Gauge, type Registry } from '../telemetry/metrics.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import type { Authority } from './authority.ts';

/** Starts the gRPC server: every contract behind the chain of interceptors, and the standard services. */
export async function serve(parts: {
  registrations: readonly Registration[];
  config: Config<typeof runtimeVariables>;
  tls: TlsWatch;
  log: Logger;
  registry: Registry;
  db: Database;
  authority: Authority;
  statuses: ReturnType<typeof health>;
  tracing: Tracing;
}) {
  const { registrations, config, log, registry, authority } = parts;
  const verifier = tokenVerifier({
    issuer: config.tokenIssuer,
    audience: 'armature',
    keys: authority.keys,
  });
  let workloadAt = (_peer: string): string | null => null;
  const chain = {
    admission: admission(config.callsMax, metadataBytesOf),
    metrics: rpcMetrics(registry, 'server'),
    tracing: parts.tracing.interceptor,
    authentication: {
      workloadOf: (call: Parameters<typeof peerOf>[0]) => workloadAt(peerOf(call)),
      verify: verifier.verify,
    },
    decide: authority.decide,
    decisions: authority.decisions,
    denials: authority.denials,
    db: parts.db,
    requestHash: requestHasher({ current: config.requestHashKey, previous: config.requestHashPreviousKeys }),
  };
  const contracts: ServiceContract[] = registrations.map(({ contract }) => contract);
  const names = contracts.map(({ name }) => name);
  const domains = new Map(contracts.map(({ name, domain }) => [name, domain]));
  const server = await startServer({
    address: config.grpcAddress,
    tls: parts.tls,
    trustDomain: config.trustDomain,
    registrations,
    standard: [
      parts.statuses,
      ...reflection(names, (peer) => workloadAt(peer) !== null),
      channelz({ workloadAt: (peer) => workloadAt(peer), verify: verifier.verify, decide: authority.decide }),
    ],
    chain: (method) => serverChain({ ...chain, domain: domains.get(method.service) ?? '' }, method),
    log,
  });
  workloadAt = server.workloadAt;
  new Gauge({
    name: 'armature_rpc_in_flight',
    help: 'Calls in progress',
    registers: [registry],
    collect() {
      this.set(server.inFlight());
    },
  });
  return server;
}

/** Checks that every contract is implemented, and nothing else. */
export function checkContracts(contracts: readonly ServiceContract[], registrations: readonly Registration[]): void {
  const declared = contracts.map((contract) => contract.name).sort();
  const implemented = registrations.map((registration) => registration.contract.name).sort();
  if (declared.join() !== implemented.join()) {
    throw new Error(`contracts ${declared.join(', ')} are declared, ${implemented.join(', ')} are implemented`);
  }
  // A record is written in the transaction of the effect, and only keyed methods certainly have one.
  for (const method of contracts.flatMap((contract) => Object.values(contract.methods))) {
    if (method.audit && (method.kind !== 'unary' || !method.idempotency)) {
      throw new Error(`${method.path} says audit, so it must be unary and have an idempotency key`);
    }
  }
}
