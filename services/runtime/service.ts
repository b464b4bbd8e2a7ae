import type { ServiceContract } from '@armature/proto/contract.ts';
import { subscriptions } from '@armature/proto/subscriptions.ts';
import { filePolicy, type PolicySource } from './authz/policy-source.ts';
import { tokenVerifier } from './authz/tokens.ts';
import { type Background, background, type Sweeper, startSweepers } from './background.ts';
import type { Config, ConfigSpec, runtimeVariables } from './config.ts';
import { armCrashPoints } from './crash-point.ts';
import { purgeAnswers } from './db/answers.ts';
import { type Database, openDatabase } from './db/database.ts';
import { type Consumer, startMessaging } from './messaging/messaging.ts';
import { admission } from './rpc/admission.ts';
import { authorize, type Decide, decisionCounter } from './rpc/authorize.ts';
import { certificateGauge } from './rpc/certificate-gauge.ts';
import { serverChain } from './rpc/chain.ts';
import { channelz } from './rpc/channelz.ts';
import { type Client, createClient } from './rpc/client.ts';
import { errorBoundary } from './rpc/error-boundary.ts';
import { health } from './rpc/health.ts';
import { logging } from './rpc/logging.ts';
import { rpcMetrics } from './rpc/metrics.ts';
import { reflection } from './rpc/reflection.ts';
import { metadataBytesOf, peerOf, type Registration, startServer } from './rpc/server.ts';
import { type TlsWatch, watchTls } from './rpc/tls-files.ts';
import type { Definition } from './run.ts';
import { type SagaDefinition, startSagaWorker } from './saga/engine.ts';
import { withCa } from './server-trust.ts';
import { startAdmin } from './telemetry/admin.ts';
import type { Logger } from './telemetry/log.ts';
import { createRegistry, Gauge, type Registry } from './telemetry/metrics.ts';
import { startTracing, type Tracing } from './telemetry/tracing.ts';

/** What a service's `build` is given to put itself together from. */
export interface Parts<C> {
  config: C;
  db: Database;
  log: Logger;
  registry: Registry;
  background: Background;
  /** This service's certificates, always the newest, for what it serves or asks beside gRPC. */
  tls: TlsWatch;
  /** A client for another service, with this service's certificate; closed when the service stops. */
  connect<K extends ServiceContract>(contract: K, service: string, addresses: readonly string[]): Client<K>;
}

/** What a service consists of. */
export interface Built {
  services: readonly Registration<any>[];
  consumers?: readonly Consumer[];
  sagas?: readonly SagaDefinition<any>[];
  sweepers?: readonly Sweeper[];
  /** Where the policy comes from, in the service that keeps it. */
  policy?: PolicySource;
  /** Runs after everything else has stopped. */
  close?: () => Promise<void>;
}

type RuntimeConfig = Config<typeof runtimeVariables>;

export interface RunningService {
  readonly address: string;
  readonly adminAddress: string;
  stop(): Promise<void>;
}

const answersKeptHours = 48;

/** Puts a service together and starts it: every part once, in the order in which they need each other. */
export async function startService<S extends ConfigSpec & typeof runtimeVariables>(
  definition: Definition<S>,
  config: Config<S> & RuntimeConfig,
  log: Logger,
): Promise<RunningService> {
  armCrashPoints(config.crashPoints);
  const { name } = definition;
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
  });
  const db = await openDatabase({
    url: withCa(config.databaseUrl, config.databaseCaFile),
    entities: definition.entities ?? [],
    poolMax: config.databasePoolMax,
    log,
    registry,
    writeOutbox: messaging.writeOutbox,
    onEmitted: messaging.wake,
  });
  const tracing = await startTracing(name, config.otlpEndpoint);
  const clients = clientFactory(config, tls, registry, tracing);
  const built = await definition.build({ config, db, log, registry, background: open, tls, connect: clients.connect });
  const policy = built.policy ?? (await filePolicy(config.policyFile, log));
  const decide: Decide = (caller, permission) => policy.current()?.decide(caller, permission) ?? null;
  const decisions = decisionCounter(registry);

  const statuses = health(definition.contracts.map((contract) => contract.name));
  const server = await serve({
    definition,
    config,
    tls,
    log,
    registry,
    db,
    decide,
    decisions,
    statuses,
    built,
    tracing,
  });
  messaging.start(db, {
    contracts: definition.contracts,
    consumers: built.consumers ?? [],
    interceptors: [tracing.interceptor, logging, errorBoundary],
    authorize: (event) => authorize({ permission: event.permission, owner: null }, decide, decisions),
  });
  const sagas = startSagaWorker({ db, definitions: built.sagas ?? [], log, registry, background: open });
  const sweepers = startSweepers([...(built.sweepers ?? []), ...chores(db, messaging)], open, log);

  let stopping = false;
  const admin = await startAdmin({
    address: config.adminAddress,
    registry,
    readiness: async () => {
      const waiting: string[] = [];
      if (stopping) waiting.push('drain');
      if (!policy.current()) waiting.push('policy');
      await db.ping().catch(() => waiting.push('database'));
      return waiting;
    },
  });
  statuses.set(policy.current() !== null);
  return {
    address: server.address,
    adminAddress: admin.address,
    async stop() {
      stopping = true;
      statuses.set(false);
      await Promise.all([server.drain(5_000), sweepers.stop(), sagas.stop()]);
      await messaging.stop();
      await policy.stop();
      await built.close?.();
      clients.close();
      tls.stop();
      await db.close();
      await tracing.stop();
      await admin.close();
    },
  };
}

function chores(db: Database, messaging: { purge(db: Database): Promise<number> }): Sweeper[] {
  return [
    {
      name: 'old answers',
      everyMs: 60_000,
      sweep: (call) => db.read(call, (sql) => purgeAnswers(sql, answersKeptHours)),
    },
    { name: 'old events', everyMs: 60_000, sweep: () => messaging.purge(db) },
  ];
}

async function serve(parts: {
  definition: Definition<any>;
  config: RuntimeConfig;
  tls: TlsWatch;
  log: Logger;
  registry: Registry;
  db: Database;
  decide: Decide;
  decisions: ReturnType<typeof decisionCounter>;
  statuses: ReturnType<typeof health>;
  built: Built;
  tracing: Tracing;
}) {
  const { definition, config, log, registry, built } = parts;
  checkContracts(definition.contracts, built.services);
  const verifier = tokenVerifier({
    issuer: config.tokenIssuer,
    audience: 'armature',
    jwksFile: config.tokenJwksFile,
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
    decide: parts.decide,
    decisions: parts.decisions,
    db: parts.db,
  };
  const names = definition.contracts.map((contract) => contract.name);
  const server = await startServer({
    address: config.grpcAddress,
    tls: parts.tls,
    trustDomain: config.trustDomain,
    registrations: built.services,
    standard: [
      parts.statuses,
      ...reflection(names, (peer) => workloadAt(peer) !== null),
      channelz({ workloadAt: (peer) => workloadAt(peer), verify: verifier.verify, decide: parts.decide }),
    ],
    chain: (method) => serverChain({ ...chain, domain: `${definition.name}.armature.local` }, method),
    log,
  });
  workloadAt = server.workloadAt;
  new Gauge({
    name: 'armature_rpc_in_flight',
    help: 'Calls being answered',
    registers: [registry],
    collect() {
      this.set(server.inFlight());
    },
  });
  return server;
}

/** Every contract is implemented, and nothing else. */
function checkContracts(contracts: readonly ServiceContract[], registrations: readonly Registration[]): void {
  const declared = contracts.map((contract) => contract.name).sort();
  const implemented = registrations.map((registration) => registration.contract.name).sort();
  if (declared.join() !== implemented.join()) {
    throw new Error(`contracts ${declared.join(', ')} are declared, ${implemented.join(', ')} are implemented`);
  }
}

function clientFactory(config: RuntimeConfig, tls: TlsWatch, registry: Registry, tracing: Tracing) {
  const metrics = rpcMetrics(registry, 'client');
  const open: { close(): void }[] = [];
  return {
    connect<K extends ServiceContract>(contract: K, service: string, addresses: readonly string[]): Client<K> {
      const client = createClient(contract, {
        addresses,
        tls,
        expectWorkload: `service:${service}`,
        trustDomain: config.trustDomain,
        interceptors: (method) => [metrics(method), tracing.interceptor],
      });
      open.push(client);
      return client;
    },
    close() {
      for (const client of open) client.close();
    },
  };
}
