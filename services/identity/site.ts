import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type HttpHandler, type HttpsServerOptions, mount, route } from '@armature/runtime/http';
import type { KeyRing } from './key-ring.ts';
import { publicPart } from './key-store.ts';
import { isAboutToken, withTokenId } from './signed-tokens.ts';
import { acceptForms, formsLeadTo, pageContent, refusalPage } from './web.ts';

const style = readFileSync(new URL('style.css', import.meta.url));

/** A page of ours by the methods of its requests. */
export type Page = Readonly<Record<'GET' | 'POST', HttpHandler>>;

/** Whether a header If-None-Match names the tag (RFC 9110, section 13.1.2); proxies may have made it a weak one. */
const matches = (header: string | undefined, tag: string): boolean =>
  (header ?? '').split(',').some((one) => [tag, '*'].includes(one.trim().replace(/^W\//, '')));

/** Everything that is served over HTTPS: our own pages by their path, and the provider for all the rest. */
export function site(parts: {
  ring: KeyRing;
  issuer: string;
  pages: Readonly<Record<string, Page>>;
}): Pick<HttpsServerOptions, 'routes' | 'errorBody' | 'contentPolicy'> {
  const { ring, issuer } = parts;

  /** The keys to verify with. Every service asks for them every 20 s, and gets them only when they have changed. */
  const keys: HttpHandler = async (request, reply) => {
    const body = JSON.stringify({ keys: ring.present().keys.map(publicPart) });
    const tag = `"${createHash('sha256').update(body).digest('base64url')}"`;
    // A cache between identity and a service delays a revocation by this time at most.
    reply.headers({ 'Cache-Control': 'public, max-age=15', 'Access-Control-Allow-Origin': '*', ETag: tag });
    if (matches(request.headers['if-none-match'], tag)) return reply.code(304).send();
    return reply.type('application/jwk-set+json; charset=utf-8').send(body);
  };

  const provided = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { provider, keys } = ring.present();
    const open = (await provider()).callback();
    await open(isAboutToken(request) ? await withTokenId(request, keys, issuer) : request, response);
  };

  return {
    contentPolicy: pageContent,
    errorBody: refusalPage,
    routes(app) {
      const styleSheet: HttpHandler = async (_request, reply) =>
        reply.type('text/css; charset=utf-8').header('Cache-Control', 'max-age=3600').send(style);
      route(app, '/style.css', { GET: styleSheet, HEAD: styleSheet });
      app.get('/jwks', keys);
      const ownForms = formsLeadTo("'self'");
      app.register(async (scope) => {
        acceptForms(scope);
        scope.addHook('onRequest', async (_request, reply) => ownForms(reply));
        for (const [path, page] of Object.entries(parts.pages)) route(scope, path, page);
      });
      mount(app, provided);
    },
  };
}
