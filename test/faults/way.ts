import { createServer, connect as dial, type Socket } from 'node:net';
import type { Teardown } from '../support/infra.ts';

/** A way to a server that can be made slow or end in silence. What passes it is not looked at, so TLS goes through. */
export interface Way {
  /** host:port to use instead of the server's own. */
  readonly address: string;
  /** Every byte arrives this much later than it was sent, in each direction; a question and its answer take twice it. */
  delayMs: number;
  /** Nothing passes any more, on old connections and new ones, and nobody is told; what was sent meanwhile is lost. */
  silent: boolean;
  /** Ends every connection. */
  cut(): void;
}

export async function openWay(t: Teardown, target: { host: string; port: number }): Promise<Way> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = dial(target.port, target.host);
    pass(client, upstream);
    pass(upstream, client);
  });
  const way: Way = {
    address: '',
    delayMs: 0,
    silent: false,
    cut() {
      for (const socket of sockets) socket.destroy();
    },
  };
  /** Timers of one length fire in the order in which they were set, so bytes stay in order while the delay does. */
  function pass(from: Socket, to: Socket): void {
    sockets.add(from);
    from.setNoDelay(true);
    from.on('data', (bytes) => {
      if (way.silent) return;
      if (way.delayMs === 0) to.write(bytes);
      else setTimeout(() => to.write(bytes), way.delayMs);
    });
    from.on('error', () => to.destroy());
    from.on('close', () => {
      sockets.delete(from);
      to.destroy();
    });
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  t.teardown(() => {
    way.cut();
    server.close();
  });
  const bound = server.address();
  if (!bound || typeof bound === 'string') throw new Error('no port');
  return Object.assign(way, { address: `127.0.0.1:${bound.port}` });
}
