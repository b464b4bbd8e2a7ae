// Brings up everything: servers, keys, schemas, services.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ServiceName, servicePlans } from '../../services/manifest.ts';
import { ensureCertificates } from './certificates.ts';
import { withLock } from './lock.ts';
import { type MeshService, meshFile, meshServices, readMesh } from './mesh.ts';
import { migrateAll, pendingMigrations } from './migrate.ts';
import { writeBootstrap } from './people.ts';
import { problemOfService } from './probes.ts';
import type { Progress } from './progress.ts';
import { provisionBroker, provisionDatabase } from './provision.ts';
import { type RestartRequest, requestRestart } from './restart-requests.ts';
import {
  allFinished,
  findSources,
  knownServers,
  rememberServers,
  startBroker,
  startDatabase,
} from './servers/servers.ts';
import { presentServices } from './services.ts';
import { type State, tail } from './state.ts';
import { ensureSupervisor, supervisorLog, upLock } from './supervisor-process.ts';

const preferredPorts = { mysql: 7306, rabbitmq: 7672 };
const readyDeadlineMs = 120_000;
/** A service that ends so often before it is ready will not get there by itself. */
const hopelessRestarts = 3;

/** Brings up everything. Running it again starts what is missing and leaves the rest alone. */
export function up(state: State, progress: Progress): Promise<void> {
  const waiting = ({ pid }: { pid: number }) => progress.say(`  …  another armature up runs (process ${pid})`);
  return withLock(upLock(state), () => start(state, progress), { waiting });
}

async function start(state: State, progress: Progress): Promise<void> {
  const began = performance.now();
  const sources = await findSources(state, progress, preferredPorts);
  const keys = progress.step('certificates and accounts', () => makeKeys(state), describeKeys);
  const database = async () => {
    await keys;
    const url = await startDatabase(state, sources, progress, preferredPorts.mysql);
    await progress.step('schemas and accounts', () => provisionDatabase(state, url));
    const stores = presentServices().filter((name) => servicePlans[name].stores);
    const migrating = await pendingMigrations(url, stores);
    if (migrating.length > 0)
      await progress.step(
        'migrations',
        () => migrateAll(state, url, migrating),
        () => migrating.join(' '),
      );
    return url;
  };
  const broker = async () => {
    await keys;
    const urls = await startBroker(state, sources, progress, preferredPorts.rabbitmq);
    await progress.step('virtual host and accounts', () => provisionBroker(state, urls.management));
    return urls;
  };
  const [url, rabbitmq] = await allFinished([database(), broker(), keys]);
  rememberServers(state, { mysql: { url }, rabbitmq });
  await ensureSupervisor(state, progress.say);
  const names = presentServices();
  if (names.length > 0)
    await progress.step(
      'services',
      (waitingFor) => allReady(state, names, waitingFor),
      () => names.join(' '),
    );
  progress.say(
    `Armature is up (${((performance.now() - began) / 1000).toFixed(1)} s): ${meshFile(state)} says where everything is.`,
  );
}

async function makeKeys(state: State): Promise<string[]> {
  // Always anew: identity makes what is missing, and people may have been added here.
  writeBootstrap(state);
  return ensureCertificates(state);
}

const describeKeys = (written: string[]) => (written.length > 0 ? `made ${written.join(' ')}` : 'all good');

/**
 * Waits until every service is ready by what it says itself: what the supervisor wrote down may be out of date, such as
 * of a service that hangs. A service that keeps ending fails the start.
 */
async function allReady(state: State, names: readonly string[], waitingFor: (what: string) => void): Promise<void> {
  const deadline = Date.now() + readyDeadlineMs;
  const before = new Map(services(state).map(({ name, restarts }) => [name, restarts]));
  const confirmed = new Set<string>();
  for (;;) {
    const known = new Map(services(state).map((service) => [service.name, service]));
    const reasons = await Promise.all(
      names.filter((name) => !confirmed.has(name)).map(async (name) => [name, await notReadyBecause(known.get(name))]),
    );
    const waiting = new Map(reasons.filter((pair): pair is [string, string] => pair[1] !== undefined));
    for (const name of names) if (!waiting.has(name)) confirmed.add(name);
    if (waiting.size === 0) return;
    waitingFor([...waiting].map(([name, reason]) => `${name} ${reason}`).join('; '));
    const hopeless = [...waiting.keys()]
      .map((name) => known.get(name))
      .find((service) => service && service.restarts - (before.get(service.name) ?? 0) >= hopelessRestarts);
    if (hopeless) throw new Error(explain(state, [hopeless.name], `keeps ending (${hopeless.lastEnd})`));
    if (Date.now() > deadline) throw new Error(notReadyInTime(state, waiting));
    await sleep(50);
  }
}

/** Why a service cannot be used yet; undefined when it can. */
async function notReadyBecause(service: MeshService | undefined): Promise<string | undefined> {
  if (!service) return '(not started)';
  const { state, lastEnd } = service;
  if (state === 'restarting') return `(restarting: ${lastEnd ?? 'on request'})`;
  if (state === 'stopped') return '(stopped)';
  const found = await problemOfService(service);
  if (state === 'ready') return found && `(${found.problem})`;
  // A program that has just been started does not listen yet.
  return found && !found.silent ? `(${found.problem})` : '(starting)';
}

function notReadyInTime(state: State, waiting: ReadonlyMap<string, string>): string {
  const reasons = [...waiting].map(([name, reason]) => `  ${name} ${reason}`).join('\n');
  return `${explain(state, [...waiting.keys()], `not ready after ${readyDeadlineMs / 1000} s`)}\n${reasons}`;
}

/** Restarts one service, with the code as it is now and its schema migrated where that is due. */
export async function restartService(state: State, request: RestartRequest, cancel: AbortSignal): Promise<void> {
  const servers = knownServers(state);
  if (servers && servicePlans[request.service as ServiceName]?.stores) {
    await migrateAll(state, servers.mysql.url, await pendingMigrations(servers.mysql.url, [request.service]));
  }
  await requestRestart(state, request, cancel);
}

function services(state: State): MeshService[] {
  return meshServices(readMesh(state));
}

function explain(state: State, names: readonly string[], what: string): string {
  const logs = names.map((name) => join(state.dir, 'logs', `${name}.log`));
  const ends = logs.map((log) => `the end of ${log}:\n${tail(log, 15)}`);
  return `${names.join(', ')}: ${what}\n${ends.join('\n')}\nSee also ${supervisorLog(state)}; armature status tells how things stand, armature down stops the rest.`;
}
