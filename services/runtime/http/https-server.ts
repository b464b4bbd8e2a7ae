import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { splitAddress } from '../config/address.ts';
import type { TlsMaterial, TlsWatch } from '../credentials/tls-files.ts';
import type { Logger } from '../telemetry/log.ts';

const defaults = {
  connectionsMax: 2_000,
  handshakeTimeoutMs: 5_000,
  headersTimeoutMs: 5_000,
  requestTimeoutMs: 15_000,
  idleTimeoutMs: 5_000,
  /** The longest delay of a sign-in, the longest wait for a hash, and some time to work. */
  answerTimeoutMs: 30_000,
  headerBytesMax: 16 * 1024,
  headersMax: 100,
  bodyBytesMax: 64 * 1024,
  drainMs: 4_000,
};

export interface HttpsServer {
  /** host:port that is listened on. */
  readonly address: string;
  /** Lets requests in progress finish for a bounded time, then ends what is left. */
  close(): Promise<void>;
}

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** Serves HTTPS with the service's own certificate, always the newest. */
export async function serveHttps(options: {
  address: string;
  tls: TlsWatch;
  answer: Answer;
  log: Logger;
  /** What is to be other than for pages that people visit. */
  limits?: Partial<typeof defaults>;
}): Promise<HttpsServer> {
  const { tls, log, answer } = options;
  const limits = { ...defaults, ...options.limits };
  const { host, port } = splitAddress(options.address);
  const server = createServer(
    {
      ...contextOf(tls.current()),
      handshakeTimeout: limits.handshakeTimeoutMs,
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.idleTimeoutMs,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => {
      if (Number(request.headers['content-length'] ?? 0) > limits.bodyBytesMax) {
        // The rest is not read, so the connection cannot be used for anything else.
        response.writeHead(413, { Connection: 'close' }).end();
        return;
      }
      answer(request, response);
    },
  );
  server.maxConnections = limits.connectionsMax;
  server.maxHeadersCount = limits.headersMax;
  server.setTimeout(limits.answerTimeoutMs);
  server.on('tlsClientError', (error) => log.debug({ err: error }, 'TLS handshake failed'));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: 512 }, resolve);
  });
  const unfollow = tls.follow((material) => server.setSecureContext(contextOf(material)));
  return {
    address: `${host}:${(server.address() as AddressInfo).port}`,
    async close() {
      unfollow();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const impatient = setTimeout(() => server.closeAllConnections(), limits.drainMs);
      await closed.finally(() => clearTimeout(impatient));
    },
  };
}

/** Callers show no certificate here, so there is nobody to trust. */
const contextOf = ({ cert, key }: TlsMaterial) => ({ cert, key, minVersion: 'TLSv1.2' as const });
