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
import { type Database, openDatabase } from '../db/database.ts';
import { type BaselineHandler, type BaselineSource, type Consumer, startMessaging } from '../messaging/messaging.ts';
import { opsService } from '../ops/service.ts';
import type { Client } from '../rpc/client.ts';
import { clientFactory } from '../rpc/client-factory.ts';
import { errorBoundary } from '../rpc/error-boundary.ts';
import { health } from '../rpc/health.ts';
import { logging } from '../rpc/logging.ts';
import type { Registration } from '../rpc/server.ts';
import { type SagaDefinition, startSagaWorker } from '../saga/engine.ts';
import { armCrashPoints } from '../sync/crash-point.ts';
import { armSyncPoints } from '../sync/sync-point.ts';
import { startAdmin } from '../telemetry/admin.ts';
import type { Logger } from '../telemetry/log.ts';
import { createRegistry, type Registry } from '../telemetry/metrics.ts';
import { startTracing } from '../telemetry/tracing.ts';
import { type Authority, openAuthority } from './authority.ts';
import { startPeriodicJobs } from './periodic-jobs.ts';
import { followPolicyHealth, waitForTrust, waitingFor } from './readiness.ts';
import { retentionJobs } from './retention-jobs.ts';
import type { Definition } from './run.ts';
import { checkContracts, serve } from './serving.ts';
import { runStopSteps, type StopStep } from './stopping.ts';

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
  /** Resolves once policy and keys are loaded, or 5 s after the start with what is missing. Never rejects. */
  readonly trusted: Promise<string[]>;
  stop(): Promise<void>;
}

/** Builds and starts a service: every part once, in the order of their dependencies. */
export async function startService<S extends ConfigSpec & typeof runtimeVariables>(
  definition: Definition<S>,
  config: Config<S> & RuntimeConfig,
  log: Logger,
): Promise<RunningService> {
  const { name, contracts } = definition;
  const connections = await openConnections(definition, config, log);
  const { registry, open, tls, messaging, db, tracing, clients } = connections;
  const built = await definition.build({ config, db, log, registry, background: open, tls, connect: clients.connect });
  const authority = await openAuthority({
    ...{ service: name, config, log, registry, db, background: open, clients },
    own: built,
  });
  checkContracts(contracts, built.services);
  const ops = opsService({
    ...{ service: name, db, contracts, messaging, subscriptions },
    sagas: built.sagas ?? [],
    baselineSources: built.baselineSources ?? [],
  });
  const registrations = [...built.services, ops];
  const statuses = health(registrations.map(({ contract }) => contract.name));
  const server = await serve({ registrations, config, tls, log, registry, db, authority, statuses, tracing });
  const work = startWork({ definition, config, log, connections, built, authority });

  let stopping = false;
  const admin = await startAdmin({
    address: config.adminAddress,
    registry,
    log,
    readiness: () => waitingFor(stopping, { authority, db, messaging }),
  });
  const following = followPolicyHealth(statuses, authority.policy);
  return {
    address: server.address,
    adminAddress: admin.address,
    httpAddress: built.http?.address,
    trusted: waitForTrust(authority, following.signal),
    async stop() {
      stopping = true;
      following.abort();
      const components = { name, built, server, work, authority, connections };
      await runStopSteps([...stepsOf(components), { name: 'admin port', endsMs: 9_500, run: admin.close }], log);
    },
  };
}

/**
 * The steps of a stop, in the reverse order of dependencies. Their times leave half a second of the ten that a service
 * may take. Attempts of jobs are interrupted after six seconds, so that their results are recorded in time.
 */
function stepsOf(parts: {
  name: string;
  built: ServiceComponents;
  server: Awaited<ReturnType<typeof serve>>;
  work: ReturnType<typeof startWork>;
  authority: Authority;
  connections: Connections;
}): StopStep[] {
  const { name, built, server, work, authority, connections } = parts;
  const { messaging, clients, tls, db, tracing } = connections;
  return [
    {
      name: 'calls and background work',
      endsMs: 6_000,
      run: () => Promise.all([server.drain(5_000), built.http?.close(), work.stop()]),
    },
    { name: 'messaging', endsMs: 7_500, run: messaging.stop },
    { name: 'authorization', endsMs: 8_000, run: authority.stop },
    { name: `components of ${name}`, endsMs: 8_500, run: () => built.close?.() },
    {
      name: 'database',
      endsMs: 9_000,
      run: () => {
        clients.close();
        tls.stop();
        return db.close();
      },
    },
    { name: 'tracing', endsMs: 9_250, run: tracing.stop },
  ];
}

type Connections = Awaited<ReturnType<typeof openConnections>>;

/** Opens what every service has before it is built: certificates, broker, database, tracing, clients. */
async function openConnections<S extends ConfigSpec & typeof runtimeVariables>(
  { name, entities = [] }: Definition<S>,
  config: RuntimeConfig,
  log: Logger,
) {
  armCrashPoints(config.crashPoints);
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
    entities,
    poolMax: config.databasePoolMax,
    log,
    registry,
    participants: [messaging.outbox, decisionRecorder],
  });
  const tracing = await startTracing(name, config.otlpEndpoint);
  const clients = clientFactory(config, tls, registry, tracing);
  return { registry, open, tls, messaging, db, tracing, clients };
}

/** Starts the work that no request causes: relay and consumers, the saga worker, periodic jobs. */
function startWork<S extends ConfigSpec & typeof runtimeVariables>(parts: {
  definition: Definition<S>;
  config: RuntimeConfig;
  log: Logger;
  connections: Connections;
  built: ServiceComponents;
  authority: Authority;
}): { stop(): Promise<void> } {
  const { config, log, built, authority } = parts;
  const { registry, open, messaging, db, tracing } = parts.connections;
  messaging.start(db, {
    contracts: parts.definition.contracts,
    consumers: built.consumers ?? [],
    baselines: built.baselineHandlers ?? [],
    policyLoaded: () => authority.policy.current() !== null,
    interceptors: [tracing.interceptor, logging, errorBoundary],
    authorize: ({ permission }) => {
      const { decide, decisions, denials } = authority;
      return authorize({ permission, owner: null, target: null, audit: false }, decide, decisions, denials);
    },
  });
  const definitions = built.sagas ?? [];
  const sagas = startSagaWorker({
    ...{ db, definitions, log, registry, background: open },
    pollMs: config.sagaPollMs,
  });
  const retention = retentionJobs(db, messaging, definitions, config.sagaKeptDays);
  const jobs = [...(built.periodicJobs ?? []), ...retention, ...authority.periodicJobs];
  const periodicJobs = startPeriodicJobs(jobs, { open, log });
  return {
    async stop() {
      await Promise.all([periodicJobs.stop(), sagas.stop()]);
    },
  };
}
