import { readFileSync } from 'node:fs';
import { certificatesIn } from './tls-files.ts';

/** The query parameter that names a file of authorities, as the servers' own tools write it. */
const parameters: Readonly<Record<string, string>> = {
  'mysql:': 'ssl-ca',
  'amqps:': 'cacertfile',
  'https:': 'cacertfile',
};

/**
 * The URL with the file of those who vouch for its server in it, so that one string says all there is to know
 * of a connection. Without a file it stays as it is. Throws for a protocol that is not encrypted.
 */
export function withCa(url: string, caFile: string | undefined): string {
  if (!caFile) return url;
  const changed = new URL(url);
  const parameter = parameters[changed.protocol];
  if (!parameter) throw new Error(`${changed.protocol}// is not encrypted, so no authority can vouch for its server`);
  changed.searchParams.set(parameter, caFile);
  return changed.href;
}

/** The URL without the file, and the file; none where the URL names none. */
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
 * What a file of authorities holds, read again at most once a second. A file that is away or half written
 * leaves what was there before; the first reading throws.
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
      // Authorities that were good a moment ago are the safer choice; the file is looked at again soon.
    }
    return known;
  };
}
