import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { withCa } from '@armature/runtime/credentials';
import { removePlainPath } from '../plain-path.ts';
import { endGroup, isAlive, stop } from '../processes.ts';
import type { Progress } from '../progress.ts';
import { readJson, type State, writeAtomically } from '../state.ts';
import { BrokerApi } from './broker-api.ts';
import { copyCertificates, dockerStarted, hasDocker, startContainers, stopContainers } from './docker.ts';
import { connectMysql, mysqlInstance, reloadCertificates, startMysql } from './mysql.ts';
import { canInstallPackages, installPackages } from './packages.ts';
import { findServerPrograms, type ServerPrograms } from './programs.ts';
import { type BrokerUrls, rabbitmqInstance, startRabbitmq } from './rabbitmq.ts';

/** The database and the broker that a state folder stands on, with their administrators' accounts. */
export interface Servers {
  mysql: { url: string };
  rabbitmq: BrokerUrls;
}

export interface PreferredPorts {
  mysql?: number;
  rabbitmq?: number;
}

const serversFile = (state: State) => join(state.dir, 'servers.json');

/** The servers of the last start; they may have been stopped since. */
export function knownServers(state: State): Servers | undefined {
  return readJson<Servers>(serversFile(state));
}

/** Where each server comes from: given by URL, started as a program of this machine, or in a container. */
export interface ServerSources {
  given: { mysql?: string; rabbitmq?: BrokerUrls };
  programs: ServerPrograms;
  /** Started at most once for both servers. */
  containers: () => Promise<{ mysql?: string; rabbitmq?: BrokerUrls }>;
}

/**
 * Decides where the servers come from: URLs of the environment, else programs of this machine, else packages that
 * may be installed (they are, here), else Docker.
 */
export async function findSources(
  state: State,
  progress: Progress,
  ports: PreferredPorts = {},
): Promise<ServerSources> {
  const given = givenServers();
  const programs = await availablePrograms(state, progress, { mysql: !given.mysql, rabbitmq: !given.rabbitmq });
  const wanted = { mysql: !given.mysql && !programs.mysql, rabbitmq: !given.rabbitmq && !hasBroker(programs) };
  let started: ReturnType<ServerSources['containers']> | undefined;
  const containers = () => {
    started ??= progress.step('containers of deploy/compose.yaml', () => startContainers(state, wanted, ports));
    return started;
  };
  return { given, programs, containers };
}

/** Starts the database, unless it runs, and returns the administrator's URL once it takes connections. */
export async function startDatabase(
  state: State,
  { given, programs, containers }: ServerSources,
  progress: Progress,
  port?: number,
): Promise<string> {
  const { mysql: url } = given;
  if (url) return progress.step('MySQL of ARMATURE_MYSQL_ADMIN_URL', () => reachable(url), where);
  const { mysql: program } = programs;
  if (!program) return (await containers()).mysql!;
  const name = program.endsWith('mariadbd') ? 'MariaDB' : 'MySQL';
  return progress.step(name, (waitingFor) => startMysql(state, program, port, waitingFor), where);
}

/** Starts the broker, unless it runs, and returns its URLs once both of its ports respond. */
export async function startBroker(
  state: State,
  { given, programs, containers }: ServerSources,
  progress: Progress,
  port?: number,
): Promise<BrokerUrls> {
  const { rabbitmq: urls } = given;
  const at = (broker: BrokerUrls) => where(broker.url);
  if (urls) return progress.step('RabbitMQ of ARMATURE_RABBITMQ_URL', () => brokerReachable(urls), at);
  const { rabbitmq, epmd } = programs;
  if (!rabbitmq || !epmd) return (await containers()).rabbitmq!;
  return progress.step('RabbitMQ', (waitingFor) => startRabbitmq(state, { rabbitmq, epmd }, port, waitingFor), at);
}

/** Starts both servers at once and remembers them in the state folder. */
export async function startServers(state: State, progress: Progress, ports: PreferredPorts = {}): Promise<Servers> {
  const sources = await findSources(state, progress, ports);
  const [url, rabbitmq] = await allFinished([
    startDatabase(state, sources, progress, ports.mysql),
    startBroker(state, sources, progress, ports.rabbitmq),
  ]);
  return rememberServers(state, { mysql: { url }, rabbitmq });
}

export function rememberServers(state: State, servers: Servers): Servers {
  writeAtomically(serversFile(state), JSON.stringify(servers, null, 2), 0o600);
  return servers;
}

/**
 * Has the servers of this state folder show the certificates that their files hold now. The broker reads its files
 * by itself, within two minutes; certificates of servers given by URL are not ours.
 */
export async function reloadServers(state: State): Promise<void> {
  const servers = knownServers(state);
  const program = mysqlInstance(state)?.process;
  const containers = dockerStarted(state);
  if (containers) copyCertificates(state);
  if (servers && (containers || (program && isAlive(program)))) await reloadCertificates(servers.mysql.url);
}

/** Like Promise.all, but fails only when all have ended, so that nothing is left half started and unrecorded. */
export async function allFinished<T extends readonly unknown[]>(
  work: [...T],
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work);
  return Promise.all(work);
}

/** Stops the servers that a start of this state folder has begun, and no others. Says what it stopped. */
export async function stopServers(state: State, { volumes = false } = {}): Promise<string[]> {
  const stopped: string[] = [];
  const end = async (name: string, process: { pid: number; started: string } | undefined) => {
    const how = process ? await stop(process) : 'absent';
    // A broker that is ended while it boots leaves programs that its start script runs.
    if (process && how !== 'absent') await endGroup(process.pid, ['SIGKILL']);
    if (how !== 'absent') stopped.push(how === 'killed' ? `${name} (by force)` : name);
  };
  const broker = rabbitmqInstance(state);
  await Promise.all([
    end('MySQL/MariaDB', mysqlInstance(state)?.process),
    // The broker takes its name off the port mapper as it goes, so the mapper goes last.
    end('RabbitMQ', broker?.broker).then(() => end("RabbitMQ's port mapper", broker?.epmd)),
  ]);
  if (dockerStarted(state)) {
    stopContainers(state, { volumes });
    stopped.push('containers');
  }
  rmSync(serversFile(state), { force: true });
  removePlainPath(state);
  return stopped;
}

function givenServers(): { mysql?: string; rabbitmq?: BrokerUrls } {
  const mysql = process.env.ARMATURE_MYSQL_ADMIN_URL;
  const mysqlCa = process.env.ARMATURE_MYSQL_CA_FILE;
  const url = process.env.ARMATURE_RABBITMQ_URL;
  const management = process.env.ARMATURE_RABBITMQ_ADMIN_URL;
  const rabbitmqCa = process.env.ARMATURE_RABBITMQ_CA_FILE;
  if (Boolean(url) !== Boolean(management)) {
    throw new Error(
      'ARMATURE_RABBITMQ_URL (amqps://host:port) and ARMATURE_RABBITMQ_ADMIN_URL (https://user:password@host:port of the management API) must be given together',
    );
  }
  const rabbitmq = url && management && { url: withCa(url, rabbitmqCa), management: withCa(management, rabbitmqCa) };
  return { ...(mysql ? { mysql: withCa(mysql, mysqlCa) } : {}), ...(rabbitmq ? { rabbitmq } : {}) };
}

function hasBroker(programs: ServerPrograms): boolean {
  return programs.rabbitmq !== undefined && programs.epmd !== undefined;
}

async function availablePrograms(
  state: State,
  progress: Progress,
  wanted: { mysql: boolean; rabbitmq: boolean },
): Promise<ServerPrograms> {
  const found = findServerPrograms();
  const missing = { mysql: wanted.mysql && !found.mysql, rabbitmq: wanted.rabbitmq && !hasBroker(found) };
  if (!missing.mysql && !missing.rabbitmq) return found;
  if (canInstallPackages()) {
    await progress.step(
      'servers by apt-get',
      () => installPackages(state, missing),
      (packages) => packages.join(' '),
    );
    return findServerPrograms();
  }
  if (hasDocker()) return found;
  const names = [missing.mysql && 'MariaDB 10.11 or MySQL 8.4', missing.rabbitmq && 'RabbitMQ']
    .filter(Boolean)
    .join(' and ');
  throw new Error(
    `${names} not found. Do one of these, then run the command again:\n` +
      '  on Debian or Ubuntu: sudo apt-get install mariadb-server-core mariadb-client-core rabbitmq-server\n' +
      '  start a Docker engine (deploy/compose.yaml is then used)\n' +
      '  set ARMATURE_MYSQL_ADMIN_URL, ARMATURE_RABBITMQ_URL and ARMATURE_RABBITMQ_ADMIN_URL to servers you have',
  );
}

async function reachable(url: string): Promise<string> {
  await (await connectMysql(url)).end();
  return url;
}

async function brokerReachable(urls: BrokerUrls): Promise<BrokerUrls> {
  await new BrokerApi(urls.management).request('GET', '/whoami');
  return urls;
}

function where(url: string): string {
  const { hostname, port } = new URL(url);
  return `${hostname}:${port}`;
}
