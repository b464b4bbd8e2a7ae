import type { IncomingMessage, ServerResponse } from 'node:http';
import { RpcError } from '@armature/runtime';
import { errorPage } from './pages.ts';

/** A request to one of our own pages. */
export interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  url: URL;
  /** Where the request comes from, as far as we can see. */
  source: string;
}

export type Page = (exchange: Exchange) => Promise<void>;

const formBytesMax = 16 * 1024;

/** Refused with a page of its own: the reason is one that `errorPage` explains. */
export class PageError extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(status: number, reason: string) {
    super(reason);
    this.status = status;
    this.reason = reason;
  }
}

/**
 * What no answer goes without: nothing is loaded from elsewhere, framed by anybody, or kept by a cache. `forms` says
 * where the forms of a page of ours may lead, redirects included. The library's pages lead to whatever program they are
 * for; to the empty list of scripts it adds the hash of the one line by which they send themselves.
 */
export function secure(response: ServerResponse, forms: string | null = null): void {
  const policy = [
    "default-src 'none'",
    'script-src',
    "style-src 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    ...(forms === null ? [] : [`form-action ${forms}`]),
  ];
  response.setHeader('Content-Security-Policy', policy.join('; '));
  response.setHeader('X-Frame-Options', 'DENY');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('Referrer-Policy', 'same-origin');
  response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
  response.setHeader('Strict-Transport-Security', 'max-age=31536000');
  response.setHeader('Cache-Control', 'no-store');
}

export function sendPage(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/html; charset=utf-8' });
  response.end(text);
}

export function redirect(response: ServerResponse, location: string): void {
  response.writeHead(303, { Location: location });
  response.end();
}

/** Reads a form, of bounded size. Throws PageError. */
export async function readForm({ request }: Exchange): Promise<URLSearchParams> {
  const [type] = (request.headers['content-type'] ?? '').split(';');
  if (type?.trim().toLowerCase() !== 'application/x-www-form-urlencoded') throw new PageError(415, 'form_invalid');
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > formBytesMax) throw new PageError(413, 'form_invalid');
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString('utf8'));
}

/** A browser says where a form was sent from. One from another site is refused, whatever it contains. */
export function fromOurPages({ request }: Exchange): void {
  const site = request.headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin') throw new PageError(403, 'form_invalid');
}

/** Answers a page that failed; true when it was not the visitor's doing. */
export function sendFailure(response: ServerResponse, error: unknown): boolean {
  if (response.headersSent) {
    response.destroy();
    return true;
  }
  if (error instanceof PageError) {
    sendPage(response, error.status, errorPage(error.reason));
    return false;
  }
  if (error instanceof RpcError && (error.code === 'RESOURCE_EXHAUSTED' || error.code === 'UNAVAILABLE')) {
    response.setHeader('Retry-After', '2');
    sendPage(response, 503, errorPage('temporarily_unavailable'));
    return false;
  }
  sendPage(response, 500, errorPage('server_error'));
  return true;
}
