// Shows what runs: each service is asked itself, since what the supervisor wrote down may be out of date.
import { readFileSync } from 'node:fs';
import { lockHolder } from '../../devmesh/lock.ts';
import { identityOf, type MeshService, meshServices, readMesh } from '../../devmesh/mesh.ts';
import { type Problem, problemOfService, problemsOfServers } from '../../devmesh/probes.ts';
import { isAlive, isSuspended, type ProcessIdentity, stoppedBySignal } from '../../devmesh/processes.ts';
import { mysqlInstance } from '../../devmesh/servers/mysql.ts';
import { rabbitmqInstance } from '../../devmesh/servers/rabbitmq.ts';
import { knownServers } from '../../devmesh/servers/servers.ts';
import { openState, type State } from '../../devmesh/state.ts';
import { presentSupervisor, runningSupervisor, upLock } from '../../devmesh/supervisor-process.ts';
import type { Invocation } from '../command.ts';
import { exitCodes } from '../exit-codes.ts';
import { printJson } from '../json.ts';
import { writeTable } from '../table.ts';
import { paint, terminalWidth, withNotice } from '../terminal.ts';

type Row = Record<'name' | 'state' | 'pid' | 'restarts' | 'memory' | 'address' | 'admin', string>;

const headings: Row = {
  name: 'NAME',
  state: 'STATE',
  pid: 'PID',
  restarts: 'RESTARTS',
  memory: 'MEMORY',
  address: 'ADDRESS',
  admin: 'ADMIN',
};

async function serviceRow(service: MeshService): Promise<Row> {
  const { name, pid, restarts, admin } = service;
  return {
    name,
    state: await stateOf(service),
    pid: String(pid ?? '-'),
    restarts: String(restarts),
    memory: memory(pid),
    address: addressOf(service),
    admin: admin ? `http://${admin}` : '-',
  };
}

/** How a service does now, with the reason where it is not ready. */
async function stateOf(service: MeshService): Promise<string> {
  const { state, lastEnd, watching } = service;
  const identity = identityOf(service);
  if (!identity) return state === 'restarting' && lastEnd ? `restarting (${lastEnd})` : state;
  if (!isAlive(identity)) return 'gone';
  const found = await problemOfService(service);
  if (!found) return state === 'ready' ? `ready${watching ? ', watching' : ''}` : state;
  if (!found.silent) return `not ready (${found.problem})`;
  // A program that has just been started does not listen yet.
  return state === 'ready' || isSuspended(identity.pid) ? `no response (${found.problem})` : state;
}

/** A service that has gRPC besides serves HTTPS. */
function addressOf({ grpc, http }: MeshService): string {
  if (!grpc) return http ? `http://${http}` : '-';
  return http ? `${grpc} https://${http}` : grpc;
}

function memory(pid: number | undefined): string {
  try {
    const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kib ? `${Math.round(Number(kib) / 1024)} MB` : '-';
  } catch {
    return '-';
  }
}

/** The servers that were started here or are used; known also while nothing else of the mesh runs. */
async function serverRows(state: State): Promise<Row[]> {
  const servers = knownServers(state);
  const [mysql, rabbitmq] = [mysqlInstance(state), rabbitmqInstance(state)];
  const instances = [
    { name: 'mysql', process: mysql?.process, port: mysql?.port, url: servers?.mysql.url },
    { name: 'rabbitmq', process: rabbitmq?.broker, port: rabbitmq?.ports.amqp, url: servers?.rabbitmq.url },
  ];
  const problems = await problemsOfServers(state);
  return instances
    .filter(({ process, url }) => url !== undefined || (process && isAlive(process)))
    .map(({ name, process, port, url }) => ({
      name,
      state: stateOfServer(process, problems.get(name)),
      pid: String(process?.pid ?? '-'),
      restarts: '-',
      memory: memory(process?.pid),
      address: url ? new URL(url).host : `127.0.0.1:${port}`,
      admin: '-',
    }));
}

function stateOfServer(process: ProcessIdentity | undefined, found: Problem | undefined): string {
  if (process && !isAlive(process)) return 'gone';
  if (process && isSuspended(process.pid)) return `no response (${stoppedBySignal(process)})`;
  if (found) return `no response (${found.problem})`;
  return process ? 'running' : 'not ours';
}

/** Prints what runs; the exit code is 1 unless all of it is ready. */
export async function showStatus({ json, deadline }: Invocation): Promise<void> {
  const state = openState();
  deadline.waitingFor = 'services and servers to respond';
  const [services, servers] = await withNotice(deadline.waitingFor, () =>
    Promise.all([Promise.all(meshServices(readMesh(state)).map(serviceRow)), serverRows(state)]),
  );
  const rows = [...servers, ...services];
  const supervisor = presentSupervisor(state);
  const starting = lockHolder(upLock(state));
  if (rows.length === 0 && !supervisor && !starting) {
    process.exitCode = exitCodes.failed;
    if (json) printJson({ running: false });
    else console.log('Nothing runs. armature up starts it.');
    return;
  }
  const well =
    runningSupervisor(state) !== undefined &&
    supervisor !== undefined &&
    !isSuspended(supervisor.pid) &&
    services.length > 0 &&
    services.every((row) => /^ready\b/.test(row.state)) &&
    servers.every((row) => /^(running|not ours)$/.test(row.state));
  process.exitCode = well ? exitCodes.ok : exitCodes.failed;
  if (json) {
    printJson({ running: true, ready: well, supervisor: supervisor?.pid ?? null, processes: rows.map(ofRow) });
    return;
  }
  const columns = Object.keys(headings) as (keyof Row)[];
  const cells = [headings, ...rows].map((row) => columns.map((column) => row[column]));
  for (const line of writeTable(cells, 'text', terminalWidth())) console.log(coloured(line));
  console.log(`\n${supervisorLine(supervisor, services.length > 0)}`);
  if (starting) console.log(`armature up runs (process ${starting.pid}).`);
}

function supervisorLine(supervisor: ProcessIdentity | undefined, services: boolean): string {
  if (supervisor && isSuspended(supervisor.pid))
    return `The supervisor does not respond: ${stoppedBySignal(supervisor)}.`;
  if (supervisor) return `The supervisor is process ${supervisor.pid}.`;
  if (services) return 'The supervisor is gone; armature up starts it again.';
  return 'Only servers run; armature up starts the services, armature down ends the servers.';
}

/** A row for programs: numbers as numbers, and null where there is nothing. */
function ofRow({ name, state, pid, restarts, memory, address, admin }: Row): object {
  const number = (text: string) => (text === '-' ? null : Number.parseInt(text, 10));
  return {
    ...{ name, state, pid: number(pid), restarts: number(restarts), memoryMb: number(memory) },
    ...{ address: address === '-' ? null : address, admin: admin === '-' ? null : admin },
  };
}

/** Paints the state, which is the second column. */
function coloured(line: string): string {
  return line.replace(
    /^(\S+ +)(ready|running|not ready|no response|gone|starting|restarting|stopped)\b/,
    (_, name, state) => name + paint(state === 'ready' || state === 'running' ? 'green' : ['bold', 'red'], state),
  );
}
