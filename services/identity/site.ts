import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Answer } from '@armature/runtime/http/https-server.ts';
import type { KeyRing } from './key-ring.ts';
import { publicPart, type SigningKey } from './key-store.ts';
import { isAboutToken, withTokenId } from './signed-tokens.ts';
import { type Exchange, type Page, PageError, secure, sendFailure } from './web.ts';

const style = readFileSync(new URL('style.css', import.meta.url));

/** Everything that is served over HTTPS: our own pages by their path, and the provider for all the rest. */
export function site(parts: {
  ring: KeyRing;
  issuer: string;
  interaction: Page;
  pages: Readonly<Record<string, Page>>;
  failed(error: unknown): void;
}): Answer {
  const own = async (exchange: Exchange, page: Page): Promise<void> => {
    const { method } = exchange.request;
    if (method !== 'GET' && method !== 'POST') throw new PageError(405, 'form_invalid');
    secure(exchange.response, "'self'");
    await page(exchange);
  };
  const provided = async (request: IncomingMessage, response: ServerResponse, pathname: string): Promise<void> => {
    const { provider, keys } = parts.ring.present();
    const open = (await provider()).callback();
    const about = isAboutToken(request, pathname) ? await withTokenId(request, keys, parts.issuer) : request;
    await open(about, response);
  };
  return (request, response) => {
    secure(response);
    // Parsed against a fixed origin: the Host header is the caller's, and decides nothing.
    const url = URL.parse(request.url ?? '/', 'https://identity.invalid');
    if (!url) {
      response.writeHead(400).end();
      return;
    }
    if (url.pathname === '/style.css') {
      response.writeHead(200, { 'Content-Type': 'text/css; charset=utf-8', 'Cache-Control': 'max-age=3600' });
      response.end(style);
      return;
    }
    if (url.pathname === '/jwks' && request.method === 'GET') {
      sendKeys(response, parts.ring.present().keys);
      return;
    }
    const exchange = { request, response, url, source: request.socket.remoteAddress ?? '' };
    const page = url.pathname.startsWith('/interaction/') ? parts.interaction : parts.pages[url.pathname];
    const answered = page ? own(exchange, page) : provided(request, response, url.pathname);
    answered.catch((error: unknown) => {
      if (sendFailure(response, error)) parts.failed(error);
    });
  };
}

/** The keys to verify with. Every service and every client asks for them, so they cost no more than this. */
function sendKeys(response: ServerResponse, keys: readonly SigningKey[]): void {
  response.writeHead(200, {
    'Content-Type': 'application/jwk-set+json; charset=utf-8',
    'Cache-Control': 'public, max-age=30',
    'Access-Control-Allow-Origin': '*',
  });
  response.end(JSON.stringify({ keys: keys.map(publicPart) }));
}
