import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { joinAddress, splitAddress } from '../config/address.ts';
import { startListening } from './listening.ts';
import type { Logger } from './log.ts';
import { exposition, type Registry } from './metrics.ts';

export interface AdminServer {
  readonly address: string;
  close(): Promise<void>;
}

/** Names the parts that are not ready; empty when all are. */
export type Readiness = () => Promise<readonly string[]> | readonly string[];

/** Metrics and health over plain HTTP for this machine only: an address other than loopback is refused. */
export async function startAdmin(options: {
  address: string;
  registry: Registry;
  readiness: Readiness;
  log: Pick<Logger, 'warn'>;
}): Promise<AdminServer> {
  const { host, port } = splitAddress(options.address);
  if (!/^(127\.\d+\.\d+\.\d+|localhost|::1)$/.test(host)) {
    throw new Error(`the admin port listens on loopback only, not on ${host}`);
  }
  const pages: Record<string, (response: ServerResponse) => Promise<void>> = {
    '/metrics': async (response) => {
      const body = await exposition(options.registry);
      response.writeHead(200, { 'content-type': options.registry.contentType }).end(body);
    },
    '/healthz': async (response) => {
      response.writeHead(200).end('ok\n');
    },
    '/readyz': async (response) => {
      const waiting = await options.readiness();
      if (waiting.length === 0) response.writeHead(200).end('ready\n');
      else response.writeHead(503).end(`waiting for ${waiting.join(', ')}\n`);
    },
  };
  const server = createServer(
    { requestTimeout: 5_000, headersTimeout: 5_000, maxHeaderSize: 8_192 },
    (request, response) => {
      const page = request.method === 'GET' ? pages[(request.url ?? '').split('?')[0] ?? ''] : undefined;
      if (!page) response.writeHead(404).end('not found\n');
      else page(response).catch(() => response.writeHead(500).end('failed\n'));
    },
  );
  server.maxConnections = 100;
  await startListening(server, { port, host }, options.log);
  return {
    address: joinAddress({ host, port: (server.address() as AddressInfo).port }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
