import type { Decision } from '@armature/proto/access/v1/access.ts';
import type { ServiceContract } from '@armature/proto/contract.ts';
import { subscriptions } from '@armature/proto/subscriptions.ts';
import { decisionRecorder } from '../authz/authorization.ts';
import { authorize } from '../authz/authorize.ts';
import type { PolicySource } from '../authz/policy-source.ts';
import type { Config, ConfigSpec, runtimeVariables } from '../config/config.ts';
import { type Background, background, type PeriodicJob } from '../context/background.ts';
import type { CallContext } from '../context/call-context.ts';
import { certificateGauge } from '../credentials/certificate-gauge.ts';
import { withCa } from '../credentials/server-trust.ts';
import { type TlsWatch, watchTls } from '../credentials/tls-files.ts';
import { tokenVerifier } from '../credentials/tokens.ts';
import { type Database, openDatabase } from '../db/database.ts';
import { requestHasher } from '../idempotency/request-hash.ts';
import { purgeStoredResponses } from '../idempotency/stored-responses.ts';
import { purgeDeadLetters } from '../messaging/dead-letter-retention.ts';
import {
  type BaselineHandler,
  type BaselineSource,
  type Consumer,
  type Messaging,
  startMessaging,
} from '../messaging/messaging.ts';
import { opsService } from '../ops/service.ts';
import { admission } from '../rpc/admission.ts';
import { serverChain } from '../rpc/chain.ts';
import { channelz } from '../rpc/channelz.ts';
import type { Client } from '../rpc/client.ts';
import { clientFactory } from '../rpc/client-factory.ts';
import { errorBoundary } from '../rpc/error-boundary.ts';
import { health } from '../rpc/health.ts';
import { logging } from '../rpc/logging.ts';
import { rpcMetrics } from '../rpc/metrics.ts';
import { reflection } from '../rpc/reflection.ts';
import { metadataBytesOf, peerOf, type Registration, startServer } from '../rpc/server.ts';
import { type SagaDefinition, startSagaWorker } from '../saga/engine.ts';
import { purgeSagas, removeSecrets } from '../saga/retention.ts';
import { armCrashPoints } from '../sync/crash-point.ts';
import { armSyncPoints } from '../sync/sync-point.ts';
import { startAdmin } from '../telemetry/admin.ts';
import type { Logger } from '../telemetry/log.ts';
import { createRegistry, Gauge, type Registry } from '../telemetry/metrics.ts';
import { startTracing, type Tracing } from '../telemetry/tracing.ts';
import { sleep } from '../time/sleep.ts';
import { type Authority, openAuthority } from './authority.ts';
import { startPeriodicJobs } from './periodic-jobs.ts';
import type { Definition } from './run.ts';

/** The dependencies that a service's `build` gets. */
export interface ServiceDependencies<C> {
  config: C;
  db: Database;
  log: Logger;
  registry: Registry;
  background: Background;
  /** This service's certificates, always the newest, for servers and clients other than gRPC. */
  tls: TlsWatch;
  /** A client for another service, with this service's certificate; closed when the service stops. */
  connect<K extends ServiceContract>(contract: K, service: string, addresses: readonly string[]): Client<K>;
}

/** The components of a service. */
export interface ServiceComponents {
  services: readonly Registration[];
  consumers?: readonly Consumer[];
  /** Handlers of the state in baselines of other services. */
  baselineHandlers?: readonly BaselineHandler[];
  /** The sequences of its own aggregates, for baselines; those of other aggregates come from the outbox. */
  baselineSources?: readonly BaselineSource[];
  sagas?: readonly SagaDefinition[];
  periodicJobs?: readonly PeriodicJob[];
  /** The source of the policy, in the service that stores it. */
  policy?: PolicySource;
  /** The service's own HTTP server, already listening; closed with the calls, and named in the state file. */
  http?: { address: string; close(): Promise<void> };
  /** Stores decisions of all services, in the service that keeps them; an existing decision stays unchanged. */
  recordDecisions?: (call: CallContext, decisions: readonly Decision[]) => Promise<void>;
  /** Runs after everything else has stopped. */
  close?: () => Promise<void>;
}

type RuntimeConfig = Config<typeof runtimeVariables>;

export interface RunningService {
  readonly address: string;
  readonly adminAddress: string;
  readonly httpAddress?: string | undefined;
  stop(): Promise<void>;
}

const responsesKeptHours = 48;
/** A start without policy or keys waits this long, not for ever: some calls need neither. */
const trustWaitMs = 5_000;
const trustPollMs = 100;

/** Builds and starts a service: every part once, in the order of their dependencies. */
export async function startService<S extends ConfigSpec & typeof runtimeVariables>(
  definition: Definition<S>,
  config: Config<S> & RuntimeConfig,
  log: Logger,
): Promise<RunningService> {
  armCrashPoints(config.crashPoints);
  const { name } = definition;
  await armSyncPoints(config.syncPoint, name);
  const registry = createRegistry(name);
  const open = background(name, log);
  const tls = watchTls({ certFile: config.tlsCertFile, keyFile: config.tlsKeyFile, caFile: config.tlsCaFile }, { log });
  certificateGauge(registry, tls);
  const messaging = startMessaging({
    service: name,
    url: withCa(config.brokerUrl, config.brokerCaFile),
    log,
    registry,
    subscriptions,
    relayLeaseMs: config.relayLeaseMs,
  });
  const db = await openDatabase({
    url: withCa(config.databaseUrl, config.databaseCaFile),
    entities: definition.entities ?? [],
    poolMax: config.databasePoolMax,
    log,
    registry,
    participants: [messaging.outbox, decisionRecorder],
  });
  const tracing = await startTracing(name, config.otlpEndpoint);
  const clients = clientFactory(config, tls, registry, tracing);
  const built = await definition.build({ config, db, log, registry, background: open, tls, connect: clients.connect });
  const authority = await openAuthority({
    ...{ service: name, config, log, registry, db, background: open, clients },
    own: built,
  });
  checkContracts(definition.contracts, built.services);
  const { contracts } = definition;
  const ops = opsService({
    ...{ service: name, db, contracts, messaging, subscriptions },
    sagas: built.sagas ?? [],
    baselineSources: built.baselineSources ?? [],
  });
  const registrations = [...built.services, ops];
  const statuses = health(registrations.map(({ contract }) => contract.name));
  const server = await serve({ registrations, config, tls, log, registry, db, authority, statuses, tracing });
  messaging.start(db, {
    contracts: definition.contracts,
    consumers: built.consumers ?? [],
    baselines: built.baselineHandlers ?? [],
    policyLoaded: () => authority.policy.current() !== null,
    interceptors: [tracing.interceptor, logging, errorBoundary],
    authorize: ({ permission }) => {
      const { decide, decisions, denials } = authority;
      return authorize({ permission, owner: null, audit: false }, decide, decisions, denials);
    },
  });
  const sagas = startSagaWorker({
    ...{ db, definitions: built.sagas ?? [], log, registry, background: open },
    pollMs: config.sagaPollMs,
  });
  const periodicJobs = startPeriodicJobs(
    [
      ...(built.periodicJobs ?? []),
      ...retentionJobs(db, messaging, built.sagas ?? [], config.sagaKeptDays),
      ...authority.periodicJobs,
    ],
    open,
    log,
  );

  let stopping = false;
  const admin = await startAdmin({
    address: config.adminAddress,
    registry,
    readiness: async () => {
      const waiting: string[] = [];
      if (stopping) waiting.push('drain');
      if (!authority.policy.current()) waiting.push('policy');
      await db.ping().catch(() => waiting.push('database'));
      return [...waiting, ...messaging.waitingFor()];
    },
  });
  const following = followPolicyHealth(statuses, authority.policy);
  await waitUntilReady(authority, following.signal);
  return {
    address: server.address,
    adminAddress: admin.address,
    httpAddress: built.http?.address,
    async stop() {
      stopping = true;
      following.abort();
      await Promise.all([server.drain(5_000), built.http?.close(), periodicJobs.stop(), sagas.stop()]);
      await messaging.stop();
      await authority.stop();
      await built.close?.();
      clients.close();
      tls.stop();
      await db.close();
      await tracing.stop();
      await admin.close();
    },
  };
}

/**
 * Reports the service as serving while it has a policy: without one every call is refused. Aborting the returned
 * controller reports it as not serving, for good. The database is deliberately ignored: it is the same for every
 * instance, so that clients would have no instance left, whereas now they get an error that names the cause.
 */
function followPolicyHealth(statuses: ReturnType<typeof health>, policy: PolicySource): AbortController {
  const stopping = new AbortController();
  const tell = () => statuses.set(!stopping.signal.aborted && policy.current() !== null);
  const timer = setInterval(tell, trustPollMs);
  timer.unref();
  stopping.signal.addEventListener('abort', () => {
    clearInterval(timer);
    tell();
  });
  tell();
  return stopping;
}

/**
 * Waits for policy and keys, so that a client that waits for the service does not find it refusing every call, unless
 * they stay missing.
 */
async function waitUntilReady(authority: Authority, stopping: AbortSignal): Promise<void> {
  const end = performance.now() + trustWaitMs;
  while (!authority.ready() && !stopping.aborted && performance.now() < end) await sleep(trustPollMs, stopping);
}

function retentionJobs(
  db: Database,
  messaging: Pick<Messaging, 'purge'>,
  sagas: readonly SagaDefinition[],
  sagaKeptDays: number,
): PeriodicJob[] {
  return [
    {
      name: 'old responses',
      everyMs: 60_000,
      run: (call) => db.write(call, (sql) => purgeStoredResponses(sql, responsesKeptHours)),
    },
    { name: 'old events', everyMs: 60_000, run: () => messaging.purge(db) },
    { name: 'ended sagas', everyMs: 600_000, run: (call) => purgeSagas(db, call, sagaKeptDays) },
    { name: 'secrets of sagas', everyMs: 60_000, run: () => removeSecrets(db, sagas) },
    { name: 'resolved dead letters', everyMs: 600_000, run: () => purgeDeadLetters(db) },
  ];
}

async function serve(parts: {
  registrations: readonly Registration[];
  config: RuntimeConfig;
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
function checkContracts(contracts: readonly ServiceContract[], registrations: readonly Registration[]): void {
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
