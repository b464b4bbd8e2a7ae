// Log of the response of each idempotency key, and the comparison of the tables with it.
import { RpcError } from '@armature/runtime';
import type { Random } from '../../support/random.ts';
import type { ShopData } from '../invariants/shop-data.ts';
import type { KeyRequest, Kind, Kinds } from './key-requests.ts';
import type { CrashMesh } from './mesh.ts';
import { callTimeoutMs, isUnclear, untilClear } from './until-clear.ts';

/** The first response to a key, and the processes that returned it and the later ones. */
export interface FirstResponse {
  /** 'OK' and the bytes in hexadecimal, or all fields of the error. */
  readonly text: string;
  /** Null if the request was refused. */
  readonly bytes: Buffer | null;
  readonly processes: Set<number | undefined>;
}

/** The log is outside every process that the run kills. */
export interface KeyResponses {
  readonly problems: string[];
  /** Sends a request until its outcome is known. Reports a problem if the response differs from the first one. */
  send(request: KeyRequest): Promise<void>;
  of(id: string): FirstResponse | undefined;
  /** The number of responses so far. */
  received(): number;
  /** Sends by kind and response, and attempts with unknown outcome by kind and code. */
  counts(): { responses: Record<string, number>; retries: Record<string, number> };
}

export function openKeyResponses(mesh: Pick<CrashMesh, 'victim'>, kinds: Kinds, random: Random): KeyResponses {
  const first = new Map<string, FirstResponse>();
  const byKind = new Map<string, number>();
  const retries = new Map<string, number>();
  const problems: string[] = [];
  let received = 0;
  const count = (counts: Map<string, number>, name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);

  const keep = ({ id, kind }: KeyRequest, text: string, bytes: Buffer | null, what: string) => {
    received += 1;
    count(byKind, `${kind} ${what}`);
    const before = first.get(id);
    if (before && before.text !== text) problems.push(`${kind} ${id} returned ${before.text}, then ${text}`);
    const kept = before ?? { text, bytes, processes: new Set() };
    kept.processes.add(mesh.victim(kinds[kind].service).pid);
    first.set(id, kept);
  };

  return {
    problems,
    async send(request) {
      const { id, kind, message } = request;
      const again = ({ code }: RpcError) => count(retries, `${kind} ${code}`);
      try {
        const bytes = await untilClear(random, 50, () => kinds[kind].send(message, callTimeoutMs), again);
        keep(request, `OK ${bytes.toString('hex')}`, bytes, 'OK');
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        if (!isUnclear(error)) return keep(request, refusalText(error), null, error.reason);
        again(error);
        problems.push(`${kind} ${id} has no response: ${error.code}`);
      }
    },
    of: (id) => first.get(id),
    received: () => received,
    counts: () => ({
      responses: Object.fromEntries([...byKind].sort()),
      retries: Object.fromEntries([...retries].sort()),
    }),
  };
}

const refusalText = ({ code, reason, domain, message, metadata, details }: RpcError): string =>
  JSON.stringify({ code, reason, domain, message, metadata, details });

/**
 * Compares the rows of each key with one effect, or with none if it was refused. Reports rows that belong to no key.
 */
export async function effectsContradicting(
  shopData: Pick<ShopData, 'query'>,
  kinds: Kinds,
  requests: readonly KeyRequest[],
  book: KeyResponses,
): Promise<string[]> {
  const found: string[] = [];
  for (const [name, kind] of Object.entries(kinds)) {
    const mine = requests.filter((request) => request.kind === name);
    found.push(...(await storedResponsesContradicting(shopData, kind, mine, book)));
    for (const { what, sql } of kind.effects) {
      const rows = await shopData.query<{ handle: string; n: number | string }>(sql);
      const there = new Map(rows.map(({ handle, n }) => [handle, Number(n)]));
      for (const { id, handle } of mine) {
        const bytes = book.of(id)?.bytes ?? null;
        if (!bytes && typeof handle !== 'string') continue;
        const at = typeof handle === 'string' ? handle : handle(bytes!);
        const [is, should] = [there.get(at) ?? 0, bytes ? 1 : 0];
        if (is !== should) found.push(`${name} ${id}: ${is} times ${what}, expected ${should}`);
        there.delete(at);
      }
      for (const [handle, n] of there) found.push(`${name}: ${n} times ${what} ${handle} that no key has asked for`);
    }
  }
  return found;
}

/** Checks that each key is stored once, with exactly the bytes of the response. */
async function storedResponsesContradicting(
  shopData: Pick<ShopData, 'query'>,
  { service, method }: Kind,
  requests: readonly KeyRequest[],
  book: KeyResponses,
): Promise<string[]> {
  const rows = await shopData.query<{ request_key: string; code: number; body: Buffer }>(
    `select request_key, code, body from {${service}}.idempotency where method = ?`,
    [method],
  );
  const stored = Map.groupBy(rows, (row) => row.request_key);
  return requests.flatMap(({ id, kind }) => {
    const [row, ...more] = stored.get(id) ?? [];
    if (!row || more.length > 0) return [`${kind} ${id}: ${more.length + (row ? 1 : 0)} stored responses`];
    const told = book.of(id);
    const same = told?.bytes ? row.code === 0 && row.body.equals(told.bytes) : row.code !== 0;
    return same ? [] : [`${kind} ${id}: the stored response differs from the returned one`];
  });
}
