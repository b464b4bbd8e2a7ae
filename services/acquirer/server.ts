import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Acquirer, Reply } from './acquirer.ts';
import * as errors from './errors.ts';
import { describe, type Logger } from './logger.ts';
import { readBody } from './request.ts';
import { dispatch } from './routes.ts';

const CONNECTION_LIMIT = 1024;
/** More than one for each connection, for clients that pipeline. */
const REQUEST_LIMIT = 2048;
const HEADER_LIMIT_BYTES = 8 * 1024;
const HEADER_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 30_000;
/** How long a request without a response may keep its connection. */
const SILENCE_LIMIT_MS = 600_000;
const DRAIN_LIMIT_MS = 8_000;

export type HttpServer = {
  /** Where it listens, as host:port. */
  address: string;
  /** Stops accepting, waits for requests under way, and closes the connections of requests without a response. */
  close(): Promise<void>;
};

/** The requests under way. */
type Traffic = { requests: number; silent: Set<Socket>; draining: boolean };

/** Serves an acquirer over HTTP/1.1; resolves once it listens. */
export async function serve(acquirer: Acquirer, host: string, port: number, logger: Logger): Promise<HttpServer> {
  const traffic: Traffic = { requests: 0, silent: new Set(), draining: false };
  const server = createServer({
    maxHeaderSize: HEADER_LIMIT_BYTES,
    headersTimeout: HEADER_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: 1_000,
    keepAliveTimeout: IDLE_TIMEOUT_MS,
  });
  server.maxConnections = CONNECTION_LIMIT;
  server.setTimeout(IDLE_TIMEOUT_MS);
  server.on('clientError', refuseMalformed);
  server.on('drop', () => logger.warn('a connection was refused: too many are open', { limit: CONNECTION_LIMIT }));
  server.on('request', async (request: IncomingMessage, response: ServerResponse) => {
    const started = performance.now();
    traffic.requests += 1;
    const reply = await replyTo(acquirer, request, traffic, logger);
    traffic.requests -= 1;
    if (reply.kind === 'noResponse') keepSilent(response, traffic);
    else send(response, reply, traffic);
    const outcome = reply.kind === 'noResponse' ? { silent: reply.reason } : { http_status: reply.http_status };
    const duration_ms = Math.round(performance.now() - started);
    logger.debug('request', { method: request.method, path: request.url?.split('?')[0], ...outcome, duration_ms });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
  // An error of a server that listens concerns one connection that was not accepted.
  server.on('error', (error) => logger.warn('a connection was not accepted', { error: describe(error) }));
  const { address, family, port: actualPort } = server.address() as AddressInfo;
  return {
    address: family === 'IPv6' ? `[${address}]:${actualPort}` : `${address}:${actualPort}`,
    close: () => drain(server, traffic),
  };
}

/** Never throws: every error becomes a response. */
async function replyTo(acquirer: Acquirer, request: IncomingMessage, traffic: Traffic, logger: Logger): Promise<Reply> {
  try {
    if (traffic.requests > REQUEST_LIMIT) throw errors.overloaded();
    const url = URL.parse(request.url ?? '', 'http://acquirer');
    if (url === null) throw errors.routeUnknown();
    const body = request.method === 'POST' ? await readBody(request) : {};
    const { method = '', headers } = request;
    return await dispatch(acquirer, { method, path: url.pathname, query: url.searchParams, headers, body });
  } catch (error) {
    if (!(error instanceof errors.Problem)) {
      // A caller that closed its connection before its body was complete caused this, so it is not logged as a failure.
      const hungUp = request.destroyed && !request.complete;
      if (!hungUp) logger.error('a request failed', { path: request.url?.split('?')[0], error: describe(error) });
    }
    const { httpStatus, code, message, field } = error instanceof errors.Problem ? error : errors.internalError();
    return { kind: 'response', http_status: httpStatus, body: { error: { code, message, field } }, replayed: false };
  }
}

function send(response: ServerResponse, reply: Reply & { kind: 'response' }, traffic: Traffic): void {
  const bytes = Buffer.from(JSON.stringify(reply.body));
  // The rest of a body that is too large must not be read as the next request.
  if (reply.http_status === 413 || traffic.draining) response.setHeader('connection', 'close');
  if (reply.replayed) response.setHeader('idempotent-replayed', 'true');
  response.writeHead(reply.http_status, { 'content-type': 'application/json', 'content-length': bytes.length });
  response.end(bytes);
}

/** Leaves the caller waiting until it gives up, the limit passes, or the server drains. */
function keepSilent({ socket }: ServerResponse, traffic: Traffic): void {
  if (socket === null || socket.destroyed) return;
  if (traffic.draining) {
    socket.destroy();
    return;
  }
  socket.setTimeout(SILENCE_LIMIT_MS);
  traffic.silent.add(socket);
  socket.once('close', () => traffic.silent.delete(socket));
}

const malformed: Readonly<Record<string, [status: string, code: string, message: string]>> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'headers_too_large', 'the headers are too large'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'request_timeout', 'the request took too long to arrive'],
};

/** Responds to requests that Node's parser rejects, in the format of all other errors. */
function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, code, message] = malformed[error.code ?? ''] ?? ['400 Bad Request', 'request_invalid', 'not HTTP/1.1'];
  const body = JSON.stringify({ error: { code, message } });
  const headers = `content-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close`;
  socket.end(`HTTP/1.1 ${status}\r\n${headers}\r\n\r\n${body}`);
}

async function drain(server: Server, traffic: Traffic): Promise<void> {
  traffic.draining = true;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  for (const socket of traffic.silent) socket.destroy();
  server.closeIdleConnections();
  const forceTimer = setTimeout(() => server.closeAllConnections(), DRAIN_LIMIT_MS);
  await closed;
  clearTimeout(forceTimer);
}
