// Asks every service and server of a state folder for a response, each within a deadline.
import { connect as connectTls } from 'node:tls';
import { splitAddress } from '@armature/runtime/config';
import { withTimeout } from '@armature/runtime/time';
import { identityOf, type MeshService, meshServices, readMesh } from './mesh.ts';
import { isAlive, isSuspended, type ProcessIdentity, stoppedBySignal } from './processes.ts';
import { BrokerApi } from './servers/broker-api.ts';
import { connectMysql, mysqlInstance } from './servers/mysql.ts';
import { rabbitmqInstance } from './servers/rabbitmq.ts';
import { knownServers } from './servers/servers.ts';
import type { State } from './state.ts';

const deadlineMs = 3_000;

/** Where a service or server stands, and how it is asked for a response. */
interface Probe {
  name: string;
  address: string;
  process: ProcessIdentity | undefined;
  /** Returns what is wrong with a response; rejects where there is none. */
  ask(): Promise<string | undefined>;
}

/** What is wrong with a part of the mesh now. */
export interface Problem {
  name: string;
  /** In words, such as "no response from 127.0.0.1:7404 within 3 s". */
  problem: string;
  /** Whether it does not respond at all; otherwise it says that it is not ready. */
  silent: boolean;
}

/** What is wrong with the services, the database and the broker of a state folder; none where all of them are ready. */
export async function findProblems(state: State): Promise<Problem[]> {
  const probes = [...serverProbes(state), ...meshServices(readMesh(state)).map(serviceProbe)];
  const found = await Promise.all(probes.map(problemOf));
  return found.filter((problem) => problem !== undefined);
}

/** What is wrong with one service; undefined where it is ready. */
export const problemOfService = (service: MeshService): Promise<Problem | undefined> =>
  problemOf(serviceProbe(service));

/** What is wrong with database and broker, by name: "mysql" and "rabbitmq". */
export async function problemsOfServers(state: State): Promise<Map<string, Problem>> {
  const found = await Promise.all(serverProbes(state).map(problemOf));
  return new Map(found.flatMap((problem) => (problem ? [[problem.name, problem]] : [])));
}

async function problemOf({ name, address, process, ask }: Probe): Promise<Problem | undefined> {
  if (process && !isAlive(process)) return { name, problem: `process ${process.pid} has ended`, silent: true };
  if (process && isSuspended(process.pid)) return { name, problem: stoppedBySignal(process), silent: true };
  try {
    const problem = await withTimeout(deadlineMs, ask(), 'it');
    return problem === undefined ? undefined : { name, problem, silent: false };
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ECONNREFUSED' ? 'connection refused by' : 'no response from';
    return { name, problem: `${why} ${address} within ${deadlineMs / 1000} s`, silent: true };
  }
}

function serviceProbe(service: MeshService): Probe {
  const { name, grpc, admin, http } = service;
  return {
    ...{ name, address: grpc ?? http ?? admin ?? '', process: identityOf(service) },
    async ask() {
      const readiness = admin ?? (grpc ? undefined : http);
      const waiting = readiness ? await notReady(readiness) : undefined;
      // The port that is called must respond too.
      if (grpc) await handshake(grpc);
      return waiting;
    },
  };
}

/** What the readiness page says that a service waits for. */
async function notReady(address: string): Promise<string | undefined> {
  const response = await fetch(`http://${address}/readyz`, { signal: AbortSignal.timeout(deadlineMs) });
  const text = (await response.text()).trim();
  return response.status === 200 ? undefined : (text.split('\n')[0] ?? '').slice(0, 300);
}

function serverProbes(state: State): Probe[] {
  const servers = knownServers(state);
  if (!servers) return [];
  const { mysql, rabbitmq } = servers;
  return [
    {
      ...{ name: 'mysql', address: new URL(mysql.url).host, process: mysqlInstance(state)?.process },
      async ask() {
        const connection = await connectMysql(mysql.url, deadlineMs);
        await withTimeout(deadlineMs, connection.query('SELECT 1'), 'a query').finally(() => connection.destroy());
        return undefined;
      },
    },
    {
      ...{ name: 'rabbitmq', address: new URL(rabbitmq.url).host, process: rabbitmqInstance(state)?.broker },
      async ask() {
        await new BrokerApi(rabbitmq.management).request('GET', '/whoami', undefined, deadlineMs);
        const { protocol, host } = new URL(rabbitmq.url);
        if (protocol === 'amqps:') await handshake(host);
        return undefined;
      },
    },
  ];
}

/** Finishes a TLS handshake. It accepts any certificate, because nothing is sent. */
function handshake(address: string): Promise<void> {
  const { host, port } = splitAddress(address);
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host, port, rejectUnauthorized: false, ALPNProtocols: ['h2', 'http/1.1'] });
    socket.setTimeout(deadlineMs, () => socket.destroy(new Error('no response')));
    socket.once('secureConnect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', reject);
  });
}
