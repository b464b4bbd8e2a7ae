import { once } from 'node:events';
import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Teardown } from './infra.ts';

/**
 * A way to a server that can be made slow, be cut or closed, or end in silence. Bytes are not looked at, so TLS goes through. Nothing
 * is ever lost: what was held back arrives once the way is open again.
 */
export interface Way {
  /** host:port to use instead of the server's own. */
  readonly address: string;
  /** The server's URL, with that address in it. */
  readonly url: string;
  /** How much later than it was sent what a client sends arrives; asked for each piece. In order all the same. */
  delayMs: () => number;
  /**
   * From now on connections are taken as ever, but nothing passes any more, in either direction. With `afterBytes`,
   * old connections are silent and of new ones the client's first so many bytes pass, and all that is answered to them.
   */
  hold(afterBytes?: number): void;
  /** Lets pass what was held back, and all that comes. */
  open(): void;
  /** Ends every connection; the number of sockets. */
  cut(): number;
  /** The next so many connections are ended as soon as they come; with 0 they are taken again. */
  refuse(connections: number): void;
  /** Connections that were refused so far. */
  refused(): number;
  /** Clients that are connected now. */
  connections(): number;
}

/** Client bytes until a MySQL client begins to speak TLS: its request for it. */
export const mysqlTlsRequestBytes = 36;

export async function openWay(t: Teardown, serverUrl: string): Promise<Way> {
  const url = new URL(serverUrl);
  const target = { host: url.hostname, port: Number(url.port) };
  const pairs = new Set<Pair>();
  let passes = Number.POSITIVE_INFINITY;
  let toRefuse = 0;
  let refused = 0;
  const server = createServer((client) => {
    if (toRefuse > 0) {
      toRefuse -= 1;
      refused += 1;
      return void client.destroy();
    }
    const pair = connectPair(client, target, passes, () => way.delayMs());
    pairs.add(pair);
    pair.ended.then(() => pairs.delete(pair));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const way: Way = {
    address: url.host,
    url: url.href,
    delayMs: () => 0,
    hold(afterBytes = 0) {
      passes = afterBytes;
      for (const pair of pairs) pair.allow(0);
    },
    open() {
      passes = Number.POSITIVE_INFINITY;
      for (const pair of pairs) pair.allow(passes);
    },
    cut() {
      const sockets = 2 * pairs.size;
      for (const pair of pairs) pair.end();
      return sockets;
    },
    refuse(connections) {
      toRefuse = connections;
    },
    refused: () => refused,
    connections: () => [...pairs].filter((pair) => !pair.client.destroyed).length,
  };
  t.teardown(() => {
    way.cut();
    server.close();
  });
  return way;
}

interface Pair {
  readonly client: Socket;
  /** Both ends are closed. */
  readonly ended: Promise<unknown>;
  /** How many more bytes of the client pass; with none, the server's do not either. */
  allow(bytes: number): void;
  end(): void;
}

function connectPair(
  client: Socket,
  target: { host: string; port: number },
  allowed: number,
  delayMs: () => number,
): Pair {
  const upstream = dial(target.port, target.host);
  let left = allowed;
  // A new connection that nothing may pass has not even a greeting.
  let silent = allowed === 0;
  const toServer: Buffer[] = [];
  const toClient: Buffer[] = [];
  let sent: Promise<unknown> = Promise.resolve();
  const end = () => {
    client.destroy();
    upstream.destroy();
  };
  const flush = () => {
    while (left > 0 && toServer.length > 0) {
      const bytes = toServer.shift()!;
      const part = bytes.subarray(0, left);
      if (part.length < bytes.length) toServer.unshift(bytes.subarray(part.length));
      left -= part.length;
      // Never before what was sent before it.
      const arrival = performance.now() + delayMs();
      sent = sent
        .then(() => sleep(Math.max(0, arrival - performance.now())))
        .then(() => upstream.writable && upstream.write(part));
    }
    while (!silent && toClient.length > 0) client.write(toClient.shift()!);
  };
  for (const [from, queue] of [
    [client, toServer],
    [upstream, toClient],
  ] as const) {
    from.setNoDelay(true);
    from.on('data', (bytes) => {
      queue.push(bytes);
      flush();
    });
    // An end is told only while the way is open: beyond a silent one nobody knows.
    from.on('error', () => !silent && end());
    from.on('close', () => !silent && end());
  }
  return {
    client,
    ended: Promise.all([client, upstream].map((socket) => new Promise((closed) => socket.once('close', closed)))),
    allow(bytes) {
      left = bytes;
      silent = bytes === 0;
      if (!silent && (client.destroyed || upstream.destroyed)) end();
      flush();
    },
    end,
  };
}
