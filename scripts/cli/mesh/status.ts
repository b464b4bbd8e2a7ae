// Shows what runs: each service is asked itself, since what the supervisor wrote down may be out of date.
import { readFileSync } from 'node:fs';
import { type MeshService, meshServices, readMesh } from '../../devmesh/mesh.ts';
import { isAlive } from '../../devmesh/processes.ts';
import { mysqlInstance } from '../../devmesh/servers/mysql.ts';
import { rabbitmqInstance } from '../../devmesh/servers/rabbitmq.ts';
import { openState, type State } from '../../devmesh/state.ts';
import { runningSupervisor } from '../../devmesh/supervisor-process.ts';
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
  const { name, pid, restarts, admin, lastEnd } = service;
  const seen = service.state === 'ready' && admin ? await readiness(admin) : service.state;
  const watching = service.watching && seen === 'ready' ? ', watching' : '';
  return {
    name,
    state: lastEnd && seen !== 'ready' ? `${seen} (${lastEnd})` : `${seen}${watching}`,
    pid: String(pid ?? '-'),
    restarts: String(restarts),
    memory: memory(pid),
    address: addressOf(service),
    admin: admin ? `http://${admin}` : '-',
  };
}

/** A service that has gRPC besides serves HTTPS. */
function addressOf({ grpc, http }: MeshService): string {
  if (!grpc) return http ? `http://${http}` : '-';
  return http ? `${grpc} https://${http}` : grpc;
}

async function readiness(admin: string): Promise<string> {
  try {
    const { status } = await fetch(`http://${admin}/readyz`, { signal: AbortSignal.timeout(2_000) });
    return status === 200 ? 'ready' : `not ready (${status})`;
  } catch {
    return 'no response';
  }
}

function memory(pid: number | undefined): string {
  try {
    const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kib ? `${Math.round(Number(kib) / 1024)} MB` : '-';
  } catch {
    return '-';
  }
}

function serverRows(state: State, urls: { mysql: string; rabbitmq: string }): Row[] {
  const instances = [
    { name: 'mysql', process: mysqlInstance(state)?.process, url: urls.mysql },
    { name: 'rabbitmq', process: rabbitmqInstance(state)?.broker, url: urls.rabbitmq },
  ];
  return instances.map(({ name, process, url }) => ({
    name,
    state: process ? (isAlive(process) ? 'running' : 'gone') : 'not ours',
    pid: String(process?.pid ?? '-'),
    restarts: '-',
    memory: memory(process?.pid),
    address: new URL(url).host,
    admin: '-',
  }));
}

/** Prints what runs; the exit code is 1 unless all of it is ready. */
export async function showStatus({ json }: Invocation): Promise<void> {
  const state = openState();
  const mesh = readMesh(state);
  if (!mesh) {
    process.exitCode = exitCodes.failed;
    if (json) printJson({ running: false });
    else console.log('Nothing runs. armature up starts it.');
    return;
  }
  const supervisor = runningSupervisor(state);
  const services = await withNotice('the admin ports of the services', () =>
    Promise.all(meshServices(mesh).map(serviceRow)),
  );
  const servers = serverRows(state, { mysql: mesh.mysql.url, rabbitmq: mesh.rabbitmq.url });
  const well =
    supervisor && services.every((row) => /^ready\b/.test(row.state)) && servers.every((row) => row.state !== 'gone');
  process.exitCode = well ? exitCodes.ok : exitCodes.failed;
  const rows = [...servers, ...services];
  if (json) {
    printJson({ running: true, ready: Boolean(well), supervisor: supervisor?.pid ?? null, processes: rows.map(ofRow) });
    return;
  }
  const columns = Object.keys(headings) as (keyof Row)[];
  const cells = [headings, ...rows].map((row) => columns.map((column) => row[column]));
  for (const line of writeTable(cells, 'text', terminalWidth())) console.log(coloured(line));
  console.log(
    supervisor
      ? `\nThe supervisor is process ${supervisor.pid}.`
      : '\nThe supervisor is gone; armature up starts it again.',
  );
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
    /^(\S+ +)(ready|running|not ready \(\d+\)|no response|gone|starting|restarting|stopped)\b/,
    (_, name, state) => name + paint(state === 'ready' || state === 'running' ? 'green' : ['bold', 'red'], state),
  );
}
