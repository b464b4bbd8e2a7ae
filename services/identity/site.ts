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

/** Everything that is served over HTTPS: our own pages by their path, and the provider for all the rest. */
export function site(parts: {
  ring: KeyRing;
  issuer: string;
  pages: Readonly<Record<string, Page>>;
}): Pick<HttpsServerOptions, 'routes' | 'errorBody' | 'contentPolicy'> {
  const { ring, issuer } = parts;

  /** The keys to verify with. Every service and every client asks for them, so they cost no more than this. */
  const keys: HttpHandler = async (_request, reply) =>
    reply
      .type('application/jwk-set+json; charset=utf-8')
      .headers({ 'Cache-Control': 'public, max-age=30', 'Access-Control-Allow-Origin': '*' })
      .send(JSON.stringify({ keys: ring.present().keys.map(publicPart) }));

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
