import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { ServiceContract } from '@armature/proto/contract.ts';
import { type Config, ConfigError, type ConfigSpec, readConfig, type runtimeVariables } from '../config/config.ts';
import { withCa } from '../credentials/server-trust.ts';
import type { Entity } from '../db/database.ts';
import type { Migration } from '../db/schema-change.ts';
import { armCrashPoints } from '../sync/crash-point.ts';
import { createLogger, type Logger } from '../telemetry/log.ts';
import { type RunningService, type ServiceComponents, type ServiceDependencies, startService } from './service.ts';

/** A service as its main.ts declares it. */
export interface Definition<S extends ConfigSpec> {
  name: string;
  config: S;
  contracts: readonly ServiceContract[];
  entities?: readonly Entity[];
  /** Loaded only to migrate: a serving process does not need them or their dependencies. */
  migrations: () => Promise<{ migrations: readonly Migration[] }>;
  build: (parts: ServiceDependencies<Config<S>>) => ServiceComponents | Promise<ServiceComponents>;
}

/** How long a service may take to stop before it is ended. */
const drainTimeoutMs = 10_000;

/**
 * Runs a service until SIGTERM or SIGINT, or migrates its schema and exits when the first argument is
 * "migrate". Configuration problems are printed all at once and end the process with status 2.
 */
export async function run<S extends ConfigSpec & typeof runtimeVariables>(definition: Definition<S>): Promise<void> {
  if (process.argv[2] === 'migrate') return migrateAndExit(definition);
  const config = readOrExit(definition.config);
  const log = createLogger(definition.name, config.logLevel as string);
  const fail = (error: unknown) => {
    log.fatal({ err: error }, 'cannot go on');
    process.exit(1);
  };
  process.on('unhandledRejection', fail);
  process.on('uncaughtException', fail);
  try {
    const service = await startService(definition, config, log);
    const stopping = stopOnSignal(service, log, fail);
    const missing = await service.trusted;
    if (stopping()) return;
    const { address: grpc, adminAddress: admin, httpAddress: http } = service;
    const state = { name: definition.name, pid: process.pid, grpc, admin, ...(http ? { http } : {}) };
    if (config.stateFile) writeState(config.stateFile as string, state);
    if (missing.length > 0) log.warn({ ...state, missing }, 'started, but not ready');
    else log.info(state, 'ready');
  } catch (error) {
    if (error instanceof ConfigError) exitWith(error);
    fail(error);
  }
}

/** Returns whether the service is stopping. */
function stopOnSignal(service: RunningService, log: Logger, fail: (error: unknown) => void): () => boolean {
  let stopping = false;
  const stop = (signal: string) => {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, 'draining');
    setTimeout(() => fail(new Error(`not drained within ${drainTimeoutMs} ms`)), drainTimeoutMs).unref();
    service.stop().then(() => {
      log.info('stopped');
      process.exit(0);
    }, fail);
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
  return () => stopping;
}

function readOrExit<S extends ConfigSpec>(spec: S): Config<S> {
  try {
    return readConfig(spec);
  } catch (error) {
    if (error instanceof ConfigError) exitWith(error);
    throw error;
  }
}

function exitWith(problems: ConfigError): never {
  console.error(problems.message);
  process.exit(2);
}

async function migrateAndExit<S extends ConfigSpec & typeof runtimeVariables>(
  definition: Definition<S>,
): Promise<void> {
  const { databaseUrl, databaseCaFile, crashPoints } = definition.config;
  const config = readOrExit({ databaseUrl, databaseCaFile, crashPoints });
  armCrashPoints(config.crashPoints);
  try {
    const { migrate } = await import('../db/migrate.ts');
    const { runtimeMigrations } = await import('../migrations/runtime-migrations.ts');
    const { migrations } = await definition.migrations();
    const url = withCa(config.databaseUrl, config.databaseCaFile);
    const applied = await migrate(url, [...runtimeMigrations, ...migrations]);
    console.log(
      `${definition.name}: ${applied.length === 0 ? 'schema is up to date' : `applied ${applied.join(', ')}`}`,
    );
    process.exit(0);
  } catch (error) {
    console.error(`${definition.name}: migration failed:`, error);
    process.exit(1);
  }
}

/** By rename, so that a reader never sees half of it. */
function writeState(file: string, state: object): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.${process.pid}`, `${JSON.stringify(state)}\n`);
  renameSync(`${file}.${process.pid}`, file);
}
