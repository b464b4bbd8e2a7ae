import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Arrival } from '@armature/runtime/sync';
import type { Teardown } from '../../support/infra.ts';

/** A call that is blocked at a sync point until `go` is called. */
export interface Waiting extends Arrival {
  go(): void;
}

export interface SyncPointServer {
  /** Environment variables that connect the sync points of a service to this server. */
  readonly env: Record<string, string>;
  /** Sets the function that decides about arrivals from now on. Before that, every arrival goes on at once. */
  watch(watcher: (arrival: Waiting) => void): void;
  /** Lets every arrival go on from now on, so that services can be stopped. */
  open(): void;
}

/** The server of the sync points of all services that are started with its `env`. */
export async function openSyncPointServer(t: Teardown): Promise<SyncPointServer> {
  const dir = mkdtempSync(join(tmpdir(), 'armature-sync-points-'));
  const path = join(dir, 'sync-points.sock');
  const sockets = new Set<Socket>();
  let watcher: ((arrival: Waiting) => void) | null = null;
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    // A service that ends closes its connection; that is not a fault.
    socket.on('error', () => socket.destroy());
    createInterface({ input: socket }).on('line', (line) => {
      const arrival = JSON.parse(line) as Arrival;
      const go = () => socket.write(`${arrival.id}\n`);
      if (watcher) watcher({ ...arrival, go });
      else go();
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const open = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  t.teardown(() => {
    open();
    rmSync(dir, { recursive: true, force: true });
  });
  return {
    env: { ARMATURE_RACE_GATE: path },
    watch: (next) => {
      watcher = next;
    },
    open,
  };
}
