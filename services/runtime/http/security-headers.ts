import type { IncomingMessage, ServerResponse } from 'node:http';
import helmet from 'helmet';

/** Directives of a Content-Security-Policy. An empty list allows nothing, but may be extended. */
export type PolicyDirectives = Readonly<Record<string, readonly string[]>>;

type Exchange = { request: { raw: IncomingMessage }; raw: ServerResponse };

const strict: PolicyDirectives = { 'default-src': ["'none'"], 'base-uri': ["'none'"], 'frame-ancestors': ["'none'"] };

const policyOf = (directives: PolicyDirectives) => {
  const all = Object.entries({ ...strict, ...directives }).map(([name, sources]) => [name, [...sources]]);
  return { useDefaults: false, directives: Object.fromEntries(all) as Record<string, string[]> };
};

function rethrow(error?: unknown): void {
  if (error) throw error;
}

/**
 * Sets the headers of every response: no content from elsewhere, no framing, no sniffing, no caching. They are set on
 * Node's response, so that a handler that writes to it directly sends them too.
 */
export function securityHeaders(directives: PolicyDirectives): (exchange: Exchange) => void {
  const protect = helmet({
    contentSecurityPolicy: policyOf(directives),
    // The server checks the origin of forms, so pages of one origin may send the referrer to each other.
    referrerPolicy: { policy: 'same-origin' },
    strictTransportSecurity: { maxAge: 31_536_000, includeSubDomains: false },
    xFrameOptions: { action: 'deny' },
  });
  return ({ request, raw }) => {
    protect(request.raw, raw, rethrow);
    raw.setHeader('Cache-Control', 'no-store');
  };
}

/** Replaces the Content-Security-Policy of responses that need another one. Throws on an invalid source. */
export function contentPolicy(directives: PolicyDirectives): (exchange: Exchange) => void {
  const write = helmet.contentSecurityPolicy(policyOf(directives));
  return ({ request, raw }) => write(request.raw, raw, rethrow);
}
