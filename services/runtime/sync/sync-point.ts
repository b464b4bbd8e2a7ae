/**
 * A sync point in front of every statement, commit, rollback and outgoing call. A test can block a call there, to force
 * an interleaving of several calls. Unarmed, a sync point costs one comparison. Armed, each one is reported over a unix
 * socket and waits for its line there; when the socket closes, all calls continue.
 */
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

/** The message to a test about a waiting call, one line of JSON each. The response is the id on a line of its own. */
export interface Arrival {
  readonly id: number;
  /** The service and its process. */
  readonly service: string;
  readonly pid: number;
  /** The call's own id, the trace that it belongs to, and its name. */
  readonly call: string;
  readonly trace: string;
  readonly name: string;
  /** "sql …", "commit", "rollback", "end", or "call …" with the method that is called. */
  readonly point: string;
  /** The database's id of the connection of an open transaction; 0 outside of one. */
  readonly connection: number;
}

/** The fields of a call that the test gets. */
interface Waiting {
  readonly id: string;
  readonly name: string;
  readonly trace: { readonly traceId: string };
}

/** Reports that a call has reached a point, and resolves when the test lets it continue. */
export type SyncPoint = (point: string, connection?: number) => Promise<void>;

/** The connection to the test that has armed the sync points of this process. */
interface ArmedSyncPoints {
  service: string;
  socket: Socket;
  waiting: Map<number, () => void>;
  arrivals: number;
}

let armed: ArmedSyncPoints | null = null;

/**
 * Connects the sync points to the unix socket of a test; an empty path disarms them. Rejects when no test listens
 * there.
 */
export async function armSyncPoints(path: string, service: string): Promise<void> {
  if (path === '') return;
  const socket = connect(path);
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  const syncPoints: ArmedSyncPoints = { service, socket, waiting: new Map(), arrivals: 0 };
  armed = syncPoints;
  createInterface({ input: socket }).on('line', (line) => {
    const id = Number(line);
    syncPoints.waiting.get(id)?.();
    syncPoints.waiting.delete(id);
  });
  const disarm = () => {
    if (armed === syncPoints) armed = null;
    for (const go of syncPoints.waiting.values()) go();
    syncPoints.waiting.clear();
  };
  socket.on('close', disarm);
  socket.on('error', disarm);
}

/** Tells the test that work of this name has ended, where no call of its own would show that. It does not wait. */
export function lastSyncPoint(name: string): void {
  if (armed === null) return;
  void syncPoint({ id: '', name, trace: { traceId: '' } })?.('end');
}

/** The sync point function of a call; null while sync points are not armed. */
export function syncPoint(call: Waiting | null): SyncPoint | null {
  if (armed === null || call === null) return null;
  const syncPoints = armed;
  return (point, connection = 0) => {
    if (syncPoints !== armed) return Promise.resolve();
    syncPoints.arrivals += 1;
    const { service, arrivals: id } = syncPoints;
    const { id: own, name, trace } = call;
    const arrival: Arrival = {
      id,
      service,
      pid: process.pid,
      call: own,
      trace: trace.traceId,
      name,
      point,
      connection,
    };
    return new Promise((resolve) => {
      syncPoints.waiting.set(id, resolve);
      syncPoints.socket.write(`${JSON.stringify(arrival)}\n`);
    });
  };
}
