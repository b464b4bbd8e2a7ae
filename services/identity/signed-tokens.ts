import { IncomingMessage } from 'node:http';
import { createLocalJWKSet, errors, jwtVerify } from 'jose';
import type { Payload, Token } from 'oidc-provider';
import { publicPart, type SigningKey } from './key-store.ts';

const paths = new Set(['/token/introspection', '/token/revocation']);
const bodyBytesMax = 64 * 1024;
/** No token has this id, so the provider responds as for any unknown token. */
const unknown = 'unknown';

/** The stored form of a signed access token, under its id, so that it can be introspected and revoked. */
export function payloadOf(token: Token, { iat, exp }: { iat: number; exp: number }): Payload {
  const names = token.constructor.IN_PAYLOAD;
  const own = Object.fromEntries(names.flatMap((name) => (token[name] === undefined ? [] : [[name, token[name]]])));
  return { ...own, iat, exp };
}

/** Whether a request introspects or revokes a token. */
export const isAboutToken = ({ method, url = '' }: IncomingMessage): boolean =>
  method === 'POST' && paths.has(url.split('?')[0] ?? '');

/**
 * The request with the id of the token in place of a signed token. The provider keeps track of ids only and refuses
 * signed tokens, because it would have to trust what they say; here their signature is checked first.
 */
export async function withTokenId(
  request: IncomingMessage,
  keys: readonly SigningKey[],
  issuer: string,
): Promise<IncomingMessage> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    // What is too long is cut, and refused as the form that it then is not.
    if (bytes <= bodyBytesMax) chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  const form = new URLSearchParams(text);
  const token = form.get('token');
  if (token === null || token.split('.').length !== 3) return copied(request, text);
  form.set('token', (await verifiedId(token, keys, issuer)) ?? unknown);
  return copied(request, form.toString());
}

async function verifiedId(token: string, keys: readonly SigningKey[], issuer: string): Promise<string | null> {
  try {
    const options = { issuer, typ: 'at+jwt', algorithms: ['ES256'] };
    const { payload } = await jwtVerify(token, createLocalJWKSet({ keys: keys.map(publicPart) }), options);
    return payload.jti ?? null;
  } catch (error) {
    if (error instanceof errors.JOSEError) return null;
    throw error;
  }
}

/** A request whose body was read, with a body that can be read. */
function copied(request: IncomingMessage, body: string): IncomingMessage {
  const copy = new IncomingMessage(request.socket);
  const { 'transfer-encoding': _, ...headers } = request.headers;
  copy.method = request.method;
  copy.url = request.url;
  copy.httpVersion = request.httpVersion;
  copy.headers = { ...headers, 'content-length': String(Buffer.byteLength(body)) };
  copy.push(body);
  copy.push(null);
  // Otherwise its end would count as a break of the connection.
  copy.complete = true;
  return copy;
}
