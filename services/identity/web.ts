import { contentPolicy, type HttpApp, HttpError, type HttpReply, type HttpRequest } from '@armature/runtime/http';
import { errorPage } from './pages.ts';

const formBytesMax = 16 * 1024;
const html = 'text/html; charset=utf-8';

/**
 * What pages may load: the style sheet. To the empty list of scripts the provider's library adds the hash of the one
 * line by which its own pages send themselves; where those lead depends on the program that they are for.
 */
export const pageContent = { 'script-src': [], 'style-src': ["'self'"] };

/** Says where the forms of a page of ours may lead, redirects included. */
export const formsLeadTo = (...sources: string[]): ((reply: HttpReply) => void) =>
  contentPolicy({ ...pageContent, 'form-action': sources });

/** Accepts forms, of bounded size. */
export function acceptForms(app: HttpApp): void {
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: formBytesMax },
    (_request, body, done) => done(null, new URLSearchParams(String(body))),
  );
}

/** The form that was sent. Throws HttpError. */
export function formOf({ body }: HttpRequest): URLSearchParams {
  if (!(body instanceof URLSearchParams)) throw new HttpError(415, 'form_invalid');
  return body;
}

export function sendPage(reply: HttpReply, status: number, text: string): HttpReply {
  return reply.code(status).type(html).send(text);
}

/** A browser says where a form was sent from. One from another site is refused, whatever it contains. */
export function fromOurPages({ headers }: HttpRequest): void {
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin') throw new HttpError(403, 'form_invalid');
}

/** Codes of requests that no page of ours sends. */
const notOurForm = new Set(['request_invalid', 'method_not_allowed', 'body_too_large', 'media_type_unsupported']);

/** The page that explains a refusal. */
export const refusalPage = ({ code }: HttpError): { type: string; body: string } => ({
  type: html,
  body: errorPage(notOurForm.has(code) ? 'form_invalid' : code),
});
