import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

export interface Mail {
  file: string;
  subject: string;
  to: string;
  text: string;
}

/** Finds a mail of a maildir by its Message-ID among those that are not older than `since`. */
export async function findMail(folder: string, messageId: string, since: Date): Promise<Mail | undefined> {
  for (const name of await readdir(join(folder, 'new'))) {
    const file = join(folder, 'new', name);
    if ((await stat(file)).mtime < since) continue;
    const raw = await readFile(file, 'utf8');
    const { headers } = partOf(raw);
    if (headers.get('message-id') !== messageId) continue;
    return { file, subject: headers.get('subject') ?? '', to: headers.get('to') ?? '', text: plainText(raw) };
  }
  return undefined;
}

interface Part {
  headers: Map<string, string>;
  body: string;
}

/** Splits headers from the body, and joins headers that go on in a further line. */
function partOf(raw: string): Part {
  const [head = '', ...rest] = raw.replaceAll('\r\n', '\n').split('\n\n');
  const lines = head.replace(/\n[ \t]+/g, ' ').split('\n');
  const headers = new Map(
    lines.map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  return { headers, body: rest.join('\n\n') };
}

/** The text/plain part, decoded; empty when there is none. */
function plainText(raw: string): string {
  const { headers, body } = partOf(raw);
  const type = headers.get('content-type') ?? 'text/plain';
  const boundary = /boundary="?([^";]+)"?/i.exec(type)?.[1];
  if (boundary !== undefined) {
    const inner = body.split(`--${boundary}`).slice(1, -1);
    return inner.map((part) => plainText(part.replace(/^\r?\n/, ''))).find((text) => text !== '') ?? '';
  }
  return /^text\/plain/i.test(type) ? decode(body, headers.get('content-transfer-encoding') ?? '7bit') : '';
}

function decode(body: string, encoding: string): string {
  if (/base64/i.test(encoding)) return Buffer.from(body, 'base64').toString('utf8');
  if (!/quoted-printable/i.test(encoding)) return body;
  const bytes = body
    .replace(/=\n/g, '')
    .replace(/=([0-9A-F]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
