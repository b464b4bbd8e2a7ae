import { createHash } from 'node:crypto';
import { pageTokenInvalid } from '../errors/errors.ts';

/**
 * Keyset pagination: a token contains the sort key of the last row of a page and a fingerprint of the query, so that a
 * token of another query is refused instead of skipping rows.
 */
export interface Page<Cursor> {
  size: number;
  /** The cursor after which the page begins; null on the first page. */
  after: Cursor | null;
  /** The token for the page after a full one. */
  tokenAfter(cursor: Cursor): string;
}

/**
 * Reads page_size and page_token. `query` is everything else that selects and orders the rows. Throws INVALID_ARGUMENT
 * PAGE_TOKEN_INVALID.
 */
export function openPage<Cursor extends readonly (string | number)[]>(
  request: { pageSize: number; pageToken: string },
  defaultSize: number,
  query: readonly unknown[],
): Page<Cursor> {
  const fingerprint = createHash('sha256').update(JSON.stringify(query)).digest('base64url').slice(0, 12);
  return {
    size: request.pageSize || defaultSize,
    after: request.pageToken ? readToken<Cursor>(request.pageToken, fingerprint) : null,
    tokenAfter: (cursor) => Buffer.from(JSON.stringify([fingerprint, ...cursor])).toString('base64url'),
  };
}

function readToken<Cursor extends readonly (string | number)[]>(token: string, fingerprint: string): Cursor {
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
  } catch {
    throw pageTokenInvalid();
  }
  const isScalar = (part: unknown) => typeof part === 'string' || typeof part === 'number';
  if (!Array.isArray(parts) || parts.length < 2 || parts[0] !== fingerprint || !parts.every(isScalar)) {
    throw pageTokenInvalid();
  }
  return parts.slice(1) as unknown as Cursor;
}

/** Removes the extra row that a store reads to see whether there is a next page. */
export function closePage<Row, Cursor>(rows: readonly Row[], page: Page<Cursor>, cursorOf: (row: Row) => Cursor) {
  const items = rows.slice(0, page.size);
  const last = items.at(-1);
  const nextPageToken = rows.length > page.size && last !== undefined ? page.tokenAfter(cursorOf(last)) : '';
  return { items, nextPageToken };
}
