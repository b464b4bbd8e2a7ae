import { readFileSync } from 'node:fs';
import { certificatesIn } from './tls-files.ts';

/** The query parameter that names a file of authorities, as in the servers' own tools. */
const parameters: Readonly<Record<string, string>> = {
  'mysql:': 'ssl-ca',
  'amqps:': 'cacertfile',
  'https:': 'cacertfile',
};

/**
 * Returns the URL with the CA bundle that verifies the server, so that one string configures a connection. Without a
 * file the URL is unchanged. Throws for a protocol that is not encrypted.
 */
export function withCa(url: string, caFile: string | undefined): string {
  if (!caFile) return url;
  const changed = new URL(url);
  const parameter = parameters[changed.protocol];
  if (!parameter) throw new Error(`${changed.protocol}// is not encrypted, so a CA bundle cannot verify its server`);
  changed.searchParams.set(parameter, caFile);
  return changed.href;
}

/** Returns the URL without the file, and the file; undefined where the URL names none. */
export function splitCa(url: string): { url: string; caFile: string | undefined } {
  const bare = new URL(url);
  const parameter = parameters[bare.protocol];
  const caFile = parameter && bare.searchParams.get(parameter);
  if (!caFile) return { url, caFile: undefined };
  bare.searchParams.delete(parameter);
  return { url: bare.href, caFile };
}

const freshMs = 1_000;

/**
 * Returns a reader of a CA bundle that reads the file again at most once a second. A file that is missing or half
 * written leaves the previous content; the first read throws.
 */
export function caReader(caFile: string): () => string {
  const read = () => {
    const pem = readFileSync(caFile, 'utf8');
    certificatesIn(pem);
    return pem;
  };
  let known = read();
  let readAt = performance.now();
  return () => {
    if (performance.now() - readAt < freshMs) return known;
    readAt = performance.now();
    try {
      known = read();
    } catch {
      // The previous authorities are the safer choice; the file is read again soon.
    }
    return known;
  };
}
