import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type onRequestAsyncHookHandler,
} from 'fastify';
import { joinAddress, splitAddress } from '../config/address.ts';
import type { TlsMaterial, TlsWatch } from '../credentials/tls-files.ts';
import { surviveAcceptErrors } from '../telemetry/listening.ts';
import type { Logger } from '../telemetry/log.ts';
import { HttpError, httpErrorOf } from './http-error.ts';
import { type PolicyDirectives, securityHeaders } from './security-headers.ts';

const defaults = {
  connectionsMax: 2_000,
  handshakeTimeoutMs: 5_000,
  headersTimeoutMs: 5_000,
  requestTimeoutMs: 15_000,
  idleTimeoutMs: 5_000,
  /** The longest delay of a sign-in, the longest wait for a hash, and a reserve. */
  responseTimeoutMs: 30_000,
  headerBytesMax: 16 * 1024,
  headersMax: 100,
  bodyBytesMax: 64 * 1024,
  drainMs: 4_000,
};

export type HttpApp = FastifyInstance;
export type HttpRequest = FastifyRequest;
export type HttpReply = FastifyReply;
export type HttpHandler = (request: HttpRequest, reply: HttpReply) => Promise<unknown>;

export interface HttpsServerOptions {
  /** host:port to listen on; port 0 selects a free one. */
  address: string;
  tls: TlsWatch;
  log: Logger;
  /**
   * Addresses and networks of proxies in front of this server. `request.ip` is the last address of X-Forwarded-For that
   * is none of these; without them it is the address of the connection, whatever the request says.
   */
  trustedProxies?: readonly string[];
  /**
   * Registers routes, and a parser for each content type that they accept: a body without a parser is refused with 415.
   */
  routes(app: HttpApp): void;
  /** The response body of a refusal; by default JSON with its code. */
  errorBody?(error: HttpError): { type: string; body: string };
  /** Sources that pages of this server may load; none by default. */
  contentPolicy?: PolicyDirectives;
  /** Overrides of the limits, whose defaults are for pages that people visit. */
  limits?: Partial<typeof defaults>;
}

export interface HttpsServer {
  /** host:port that the server listens on. */
  readonly address: string;
  /** Lets requests in progress finish for a bounded time, then ends the rest. */
  close(): Promise<void>;
}

/**
 * Serves HTTPS with the service's own certificate, always the newest, under limits and headers that all HTTPS servers
 * share.
 */
export async function serveHttps(options: HttpsServerOptions): Promise<HttpsServer> {
  const { tls, log } = options;
  const limits = { ...defaults, ...options.limits };
  const { host, port } = splitAddress(options.address);
  const server = createServer({
    ...contextOf(tls.current()),
    handshakeTimeout: limits.handshakeTimeoutMs,
    maxHeaderSize: limits.headerBytesMax,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.idleTimeoutMs,
    connectionsCheckingInterval: 1_000,
  });
  const unfollow = tls.follow((material) => server.setSecureContext(contextOf(material)));
  server.maxConnections = limits.connectionsMax;
  server.maxHeadersCount = limits.headersMax;
  server.setTimeout(limits.responseTimeoutMs);
  server.on('tlsClientError', (error) => log.debug({ err: error }, 'TLS handshake failed'));
  // For a name with several addresses Fastify would open further servers without these limits. With a given server it
  // does not.
  const app = fastify({
    serverFactory: (handler) => server.on('request', handler),
    bodyLimit: limits.bodyBytesMax,
    trustProxy: options.trustedProxies?.length ? [...options.trustedProxies] : false,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    rewriteUrl: ({ url = '/' }) => pathOf(url),
    frameworkErrors: (error, request, reply) => refuse(error, request, reply as HttpReply),
    schemaController: { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } },
  });
  const protect = securityHeaders(options.contentPolicy ?? {});
  const refuse = refusals(log, options.errorBody ?? json);
  app.removeAllContentTypeParsers();
  app.addHook('onRequest', async (request, reply) => {
    protect(reply);
    if (Number(request.headers['content-length'] ?? 0) <= limits.bodyBytesMax) return;
    // The rest of the body is not read, so the connection cannot be reused.
    return reply.code(413).header('Connection', 'close').send();
  });
  app.setErrorHandler(refuse);
  app.setNotFoundHandler(() => {
    throw new HttpError(404, 'not_found');
  });
  options.routes(app);
  await app.listen({ host, port, backlog: 512 });
  surviveAcceptErrors(server, log);
  return {
    address: joinAddress({ host, port: (server.address() as AddressInfo).port }),
    async close() {
      unfollow();
      const overdue = setTimeout(() => server.closeAllConnections(), limits.drainMs);
      await app.close().finally(() => clearTimeout(overdue));
    },
  };
}

/** Serves a path by the handlers of its methods. Every other method is refused with 405 and the list of these. */
export function route(
  app: HttpApp,
  url: string,
  handlers: Readonly<Record<string, HttpHandler>>,
  onRequest: onRequestAsyncHookHandler[] = [],
): void {
  const allowed = Object.keys(handlers);
  for (const [method, handler] of Object.entries(handlers)) app.route({ method, url, onRequest, handler });
  const refuse = async () => {
    throw new HttpError(405, 'method_not_allowed', { headers: { Allow: allowed.join(', ') } });
  };
  const others = app.supportedMethods.filter((method) => !allowed.includes(method));
  // In the first hook, so that the body of a refused request is not read.
  app.route({ method: others, url, onRequest: refuse, handler: refuse });
}

/** Passes every request that no route takes to a handler of Node's kind, with its body unread. */
export function mount(
  app: HttpApp,
  handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
): void {
  app.register(async (scope) => {
    scope.addContentTypeParser('*', (_request, _body, done) => done(null));
    scope.all('/*', async (request, reply) => {
      try {
        await handle(request.raw, reply.raw);
      } catch (error) {
        if (!reply.raw.headersSent) throw error;
        reply.raw.destroy(error as Error);
      }
      // The handler has sent the response itself, so Fastify must not.
      reply.hijack();
    });
  });
}

const json = ({ code }: HttpError) => ({ type: 'application/json', body: JSON.stringify({ error: { code } }) });

/**
 * Responds to every request that failed. A fault of the server is logged once, by its route: a URL may contain secrets.
 */
function refusals(log: Logger, bodyOf: NonNullable<HttpsServerOptions['errorBody']>) {
  return (error: unknown, request: HttpRequest, reply: HttpReply): void => {
    const refused = httpErrorOf(error);
    const { raw } = request;
    const hungUp = raw.destroyed && !raw.complete;
    if (refused.status === 500 && !hungUp) {
      log.error(
        { err: refused.cause ?? error, method: raw.method, route: request.routeOptions.url },
        'a request failed',
      );
    }
    // The unread rest of a body must not be parsed as the next request.
    if (!raw.complete) reply.header('Connection', 'close');
    const { type, body } = bodyOf(refused);
    reply.code(refused.status).headers(refused.headers).type(type).send(body);
  };
}

/** Contracts and handlers check requests; leaving JSON Schema out saves some megabytes. */
function noSchemas(): never {
  throw new Error('routes of this server have no JSON schema');
}

/** Returns the path of a request target. A target may contain a host (RFC 9112, 3.2.2); the host is ignored. */
function pathOf(target: string): string {
  if (target.startsWith('/')) return target;
  const url = URL.parse(target);
  return url ? `${url.pathname}${url.search}` : '/';
}

/** Clients have no certificate here, so no authorities are needed. */
const contextOf = ({ cert, key }: TlsMaterial) => ({ cert, key, minVersion: 'TLSv1.2' as const });
