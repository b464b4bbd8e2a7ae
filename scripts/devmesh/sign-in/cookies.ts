interface Cookie {
  name: string;
  value: string;
  path: string;
}

/** The cookies of one site, as a browser keeps them: sent only to the paths that they were set for. */
export interface CookieJar {
  /** Stores the cookies that a response sets, and deletes those it expires. */
  take(url: URL, setCookies: readonly string[]): void;
  /** The header for a request; empty where there is nothing to send. */
  header(url: URL): string;
}

export function cookieJar(now: () => number = Date.now): CookieJar {
  const kept = new Map<string, Cookie>();
  return {
    take(url, setCookies) {
      for (const text of setCookies) {
        const [pair = '', ...attributes] = text.split(';').map((part) => part.trim());
        const { path = folderOf(url.pathname), ...limits } = attributesOf(attributes);
        const at = pair.indexOf('=');
        const cookie = { name: pair.slice(0, at), value: pair.slice(at + 1), path };
        const key = `${cookie.name} ${path}`;
        if (isOver(limits, now())) kept.delete(key);
        else kept.set(key, cookie);
      }
    },
    header(url) {
      const sent = [...kept.values()].filter(({ path }) => covers(path, url.pathname));
      // The most exact path goes first.
      const inOrder = sent.sort((a, b) => b.path.length - a.path.length);
      return inOrder.map(({ name, value }) => `${name}=${value}`).join('; ');
    },
  };
}

function attributesOf(attributes: readonly string[]): { path?: string; expires?: string; 'max-age'?: string } {
  const pairs = attributes.map((attribute) => {
    const [name = '', ...value] = attribute.split('=');
    return [name.toLowerCase(), value.join('=')];
  });
  return Object.fromEntries(pairs);
}

function isOver(limits: { expires?: string; 'max-age'?: string }, now: number): boolean {
  if (limits['max-age'] !== undefined) return Number(limits['max-age']) <= 0;
  return limits.expires !== undefined && Date.parse(limits.expires) <= now;
}

/** Where a cookie belongs that names no path: the folder of the page that set it. */
const folderOf = (pathname: string) => pathname.slice(0, Math.max(1, pathname.lastIndexOf('/')));

const covers = (path: string, pathname: string) =>
  path === pathname || pathname.startsWith(path.endsWith('/') ? path : `${path}/`);
