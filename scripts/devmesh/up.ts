// Brings up everything: servers, keys, schemas, services.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ServiceName, servicePlans } from '../../services/manifest.ts';
import { ensureCertificates } from './certificates.ts';
import { withLock } from './lock.ts';
import { type MeshService, meshFile, meshServices, readMesh } from './mesh.ts';
import { migrateAll, pendingMigrations } from './migrate.ts';
import { writeBootstrap } from './people.ts';
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
import { ensureSupervisor, supervisorLog } from './supervisor-process.ts';

const preferredPorts = { mysql: 7306, rabbitmq: 7672 };
const readyDeadlineMs = 120_000;
/** A service that ends so often before it is ready will not get there by itself. */
const hopelessRestarts = 3;

/** Brings up everything. Running it again starts what is missing and leaves the rest alone. */
export function up(state: State, progress: Progress): Promise<void> {
  return withLock(join(state.dir, 'up.lock'), () => start(state, progress));
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
  await ensureSupervisor(state);
  const names = presentServices();
  if (names.length > 0)
    await progress.step(
      'services',
      () => allReady(state, names),
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

/** Waits until the supervisor reports every service ready; a service that keeps ending fails the start. */
async function allReady(state: State, names: readonly string[]): Promise<void> {
  const deadline = Date.now() + readyDeadlineMs;
  const before = new Map(services(state).map(({ name, restarts }) => [name, restarts]));
  for (;;) {
    const known = services(state);
    const waiting = names.filter((name) => known.find((service) => service.name === name)?.state !== 'ready');
    if (waiting.length === 0) return;
    const hopeless = known.find(
      ({ name, restarts, state }) => state !== 'ready' && restarts - (before.get(name) ?? 0) >= hopelessRestarts,
    );
    if (hopeless) throw new Error(explain(state, [hopeless.name], `keeps ending (${hopeless.lastEnd})`));
    if (Date.now() > deadline) throw new Error(explain(state, waiting, `not ready after ${readyDeadlineMs / 1000} s`));
    await sleep(50);
  }
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
