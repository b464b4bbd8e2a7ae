import type { IncomingMessage, ServerResponse } from 'node:http';
import helmet from 'helmet';

/** Directives of a Content-Security-Policy. An empty list allows nothing, but may be added to. */
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
 * Sets the headers that no response goes without: nothing is loaded from elsewhere, framed, sniffed or kept by a cache.
 * They are set on Node's response, so that a handler that writes to it directly sends them too.
 */
export function securityHeaders(directives: PolicyDirectives): (exchange: Exchange) => void {
  const protect = helmet({
    contentSecurityPolicy: policyOf(directives),
    // Forms are checked for where they come from, so pages of one origin may tell each other.
    referrerPolicy: { policy: 'same-origin' },
    strictTransportSecurity: { maxAge: 31_536_000, includeSubDomains: false },
    xFrameOptions: { action: 'deny' },
  });
  return ({ request, raw }) => {
    protect(request.raw, raw, rethrow);
    raw.setHeader('Cache-Control', 'no-store');
  };
}

/** Replaces the Content-Security-Policy of responses that need another one. Throws on a source that is none. */
export function contentPolicy(directives: PolicyDirectives): (exchange: Exchange) => void {
  const write = helmet.contentSecurityPolicy(policyOf(directives));
  return ({ request, raw }) => write(request.raw, raw, rethrow);
}
