import { cookieJar } from './cookies.ts';
import { type Form, findForm, textOf } from './html.ts';
import type { Https } from './https.ts';

/** Where following redirects has ended: on a page of the site, or at the address that was waited for. */
export type Arrival = { kind: 'page'; url: URL; status: number; html: string } | { kind: 'returned'; url: URL };

/** As much of a browser as signing in needs: cookies, redirects and forms. One of these is one person's window. */
export interface Browser {
  open(url: URL): Promise<Arrival>;
  /** Sends a form of the page with its hidden fields and these. */
  submit(page: Arrival & { kind: 'page' }, form: Form, fields: Record<string, string>): Promise<Arrival>;
}

const redirectsMax = 10;

/** Stops at the first redirect that leads to `home`, which is where the program that sent us waits. */
export function browser(https: Https, home: string): Browser {
  const jar = cookieJar();
  const follow = async (first: URL, body?: string, origin?: string): Promise<Arrival> => {
    let [url, form]: [URL, string | undefined] = [first, body];
    for (let redirects = 0; redirects <= redirectsMax; redirects++) {
      const response = await https(url.href, {
        method: form === undefined ? 'GET' : 'POST',
        headers: headersOf(jar.header(url), form === undefined ? undefined : origin),
        body: form,
      });
      jar.take(url, response.headers.getSetCookie());
      const location = response.headers.get('location');
      if (response.status < 300 || response.status > 399 || location === null) {
        return { kind: 'page', url, status: response.status, html: await response.text() };
      }
      const next = new URL(location, url);
      if (isAt(next, home)) return { kind: 'returned', url: next };
      if (next.origin !== first.origin)
        throw new Error(`${url.origin} sends us to ${next.origin}, which is not its site`);
      [url, form] = [next, undefined];
    }
    throw new Error(`${first.origin} sends us from page to page without an end`);
  };
  return {
    open: (url) => follow(url),
    submit(page, form, fields) {
      const target = new URL(form.action, page.url);
      return follow(target, new URLSearchParams({ ...form.hidden, ...fields }).toString(), page.url.origin);
    },
  };
}

const isAt = (url: URL, home: string) => `${url.origin}${url.pathname}` === home;

function headersOf(cookies: string, origin: string | undefined): Record<string, string> {
  return {
    accept: 'text/html',
    ...(cookies ? { cookie: cookies } : {}),
    ...(origin ? { origin, 'sec-fetch-site': 'same-origin', 'content-type': 'application/x-www-form-urlencoded' } : {}),
  };
}

/** The page with the form that has such a field, or an error that says what the page says. */
export function formWith(arrival: Arrival, field: string): { page: Arrival & { kind: 'page' }; form: Form } {
  if (arrival.kind === 'returned') throw new Error('the page did not ask to sign in');
  const form = findForm(arrival.html, field);
  if (!form) throw new Error(`${arrival.url.origin} responded ${arrival.status}: ${textOf(arrival.html)}`);
  return { page: arrival, form };
}
