// Shows what runs, asking each service itself rather than believing what was written down.
import { readFileSync } from 'node:fs';
import { type MeshService, meshServices, readMesh } from '../devmesh/mesh.ts';
import { isAlive } from '../devmesh/processes.ts';
import { fail } from '../devmesh/progress.ts';
import { mysqlInstance } from '../devmesh/servers/mysql.ts';
import { rabbitmqInstance } from '../devmesh/servers/rabbitmq.ts';
import { openState, type State } from '../devmesh/state.ts';
import { runningSupervisor } from '../devmesh/supervisor-process.ts';

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
  return {
    name,
    state: lastEnd && seen !== 'ready' ? `${seen} (${lastEnd})` : seen,
    pid: String(pid ?? '-'),
    restarts: String(restarts),
    memory: memory(pid),
    address: addressOf(service),
    admin: admin ? `http://${admin}` : '-',
  };
}

/** Whoever has gRPC besides speaks HTTPS. */
function addressOf({ grpc, http }: MeshService): string {
  if (!grpc) return http ? `http://${http}` : '-';
  return http ? `${grpc} https://${http}` : grpc;
}

async function readiness(admin: string): Promise<string> {
  try {
    const { status } = await fetch(`http://${admin}/readyz`, { signal: AbortSignal.timeout(2_000) });
    return status === 200 ? 'ready' : `not ready (${status})`;
  } catch {
    return 'no answer';
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

function print(rows: Row[]): void {
  const all = [headings, ...rows];
  const columns = Object.keys(headings) as (keyof Row)[];
  const widths = columns.map((column) => Math.max(...all.map((row) => row[column].length)));
  for (const row of all)
    console.log(
      columns
        .map((column, i) => row[column].padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    );
}

async function main(): Promise<void> {
  const state = openState();
  const mesh = readMesh(state);
  if (!mesh) {
    console.log('Nothing runs. make up starts it.');
    return;
  }
  const supervisor = runningSupervisor(state);
  const services = await Promise.all(meshServices(mesh).map(serviceRow));
  const servers = serverRows(state, { mysql: mesh.mysql.url, rabbitmq: mesh.rabbitmq.url });
  print([...servers, ...services]);
  console.log(
    supervisor
      ? `\nThe supervisor is process ${supervisor.pid}.`
      : '\nThe supervisor is gone; make up starts it again.',
  );
  const well =
    supervisor && services.every((row) => row.state === 'ready') && servers.every((row) => row.state !== 'gone');
  process.exitCode = well ? 0 : 1;
}

await main().catch(fail);
