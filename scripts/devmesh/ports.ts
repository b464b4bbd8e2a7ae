import { createServer } from 'node:net';
import { join } from 'node:path';
import { withLock } from './lock.ts';
import { readJson, type State, writeAtomically } from './state.ts';

/** Below the range that systems hand out to outgoing connections, so a free port stays free until it is bound. */
const firstPort = 20_000;
const lastPort = 29_999;

interface Ports {
  byName: Record<string, number>;
  next: number;
}

/**
 * The port of a named listener: the one remembered, while `owned` says that its owner is on it or it is free;
 * else the preferred one, else another free one, which is then remembered.
 */
export async function portFor(
  state: State,
  name: string,
  preferred: number | undefined,
  owned = false,
): Promise<number> {
  return change(state, async (ports) => {
    const remembered = ports.byName[name];
    if (remembered !== undefined && (owned || (await isFree(remembered)))) return remembered;
    const taken = new Set(Object.values(ports.byName));
    const chosen =
      preferred !== undefined && !taken.has(preferred) && (await isFree(preferred)) ? preferred : await nextFree(ports);
    ports.byName[name] = chosen;
    return chosen;
  });
}

/** Free ports that no other caller of this state folder gets within some thousand reservations. */
export async function reservePorts(state: State, count: number): Promise<number[]> {
  return change(state, async (ports) => {
    const reserved: number[] = [];
    while (reserved.length < count) reserved.push(await nextFree(ports));
    return reserved;
  });
}

function change<T>(state: State, work: (ports: Ports) => Promise<T>): Promise<T> {
  const path = join(state.dir, 'ports.json');
  return withLock(`${path}.lock`, async () => {
    const ports = readJson<Ports>(path) ?? { byName: {}, next: firstPort + Math.floor(Math.random() * 9_000) };
    const result = await work(ports);
    writeAtomically(path, JSON.stringify(ports, null, 2));
    return result;
  });
}

async function nextFree(ports: Ports): Promise<number> {
  const taken = new Set(Object.values(ports.byName));
  for (let tries = 0; tries <= lastPort - firstPort; tries++) {
    const port = ports.next;
    ports.next = port >= lastPort ? firstPort : port + 1;
    if (!taken.has(port) && (await isFree(port))) return port;
  }
  throw new Error(`no port between ${firstPort} and ${lastPort} is free on 127.0.0.1`);
}

export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' || error.code === 'EACCES' ? resolve(false) : reject(error),
    );
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
