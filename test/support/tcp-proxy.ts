import { once } from 'node:events';
import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Teardown } from './infra.ts';

/**
 * A TCP proxy in front of a server that can delay, hold back or end connections. It forwards bytes unread, so TLS works.
 * No byte is lost: what was held back arrives once the proxy is open again.
 */
export interface TcpProxy {
  /** host:port to use instead of the server's own. */
  readonly address: string;
  /** The server's URL, with that address in it. */
  readonly url: string;
  /** How much later each piece from the client arrives, in ms. The order of the pieces is kept. */
  delayMs: () => number;
  /**
   * From now on accepts connections as before, but forwards nothing in either direction. With `afterBytes`, old
   * connections are silent, and of each new one that many bytes of the client pass, with the server's responses to them.
   */
  hold(afterBytes?: number): void;
  /** Delivers what was held back, and everything that follows. */
  open(): void;
  /** Ends every connection and returns the number of sockets. */
  cut(): number;
  /** Ends this many of the next connections at once; 0 accepts them again. */
  refuse(connections: number): void;
  /** Number of connections that were refused so far. */
  refused(): number;
  /** Number of clients that are connected now. */
  connections(): number;
}

/** Client bytes before a MySQL client begins TLS: its request for it. */
export const mysqlTlsRequestBytes = 36;

export async function openTcpProxy(t: Teardown, serverUrl: string): Promise<TcpProxy> {
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
    const pair = connectPair(client, target, passes, () => proxy.delayMs());
    pairs.add(pair);
    void pair.ended.then(() => pairs.delete(pair));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const proxy: TcpProxy = {
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
    proxy.cut();
    server.close();
  });
  return proxy;
}

interface Pair {
  readonly client: Socket;
  /** Resolves when both ends are closed. */
  readonly ended: Promise<unknown>;
  /** Lets this many more bytes of the client pass; with 0, the server's bytes are held back too. */
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
  // A new connection on hold does not even get the server's greeting.
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
      // Keeps the order of the pieces.
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
    // Forwards an end only while the proxy is open: while it is held, the peer does not learn of it.
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
