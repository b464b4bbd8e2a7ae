import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { CaptureRule, WebhookRule } from './cards.ts';
import type { Charge } from './charge.ts';
import { keyReused, operationCancelled } from './errors.ts';
import { lockDirectory } from './lock.ts';
import { type Entry, openLog } from './log.ts';
import type { AttemptRecord, OperationRecord } from './record.ts';

/**
 * What the logs say, kept in memory: about 550 bytes for a charge with its first key, and 200 for each further key,
 * so memory is linear in both and a million charges fit into 600 MB. Everything else is read from the file when asked for. It changes only by records that are durable.
 */
type Index = {
  keys: Map<string, { position: number; request_hash: string | null; cancelled: boolean }>;
  charges: Map<string, KnownCharge>;
  /** Keys with a failed first attempt that have not acted yet, and the request they came with. */
  attempts: Map<string, string>;
};

type KnownCharge = {
  charge: Charge;
  capture_rule: CaptureRule;
  webhook_rule: WebhookRule | undefined;
  /** The key that the charge was authorized with. */
  authorization_key: string | null;
};

export type Book = Awaited<ReturnType<typeof openBook>>;

/** Opens the logs of a data directory for this process alone and rebuilds the index from them. */
export async function openBook(dataDirectory: string) {
  await mkdir(dataDirectory, { recursive: true, mode: 0o700 });
  const unlock = lockDirectory(dataDirectory);
  const index: Index = { keys: new Map(), charges: new Map(), attempts: new Map() };
  const attempts = await openLog<AttemptRecord>(join(dataDirectory, 'attempts.jsonl'), (attempt) => {
    index.attempts.set(attempt.idempotency_key, attempt.request_hash);
  });
  const log = await openLog<OperationRecord>(join(dataDirectory, 'operations.jsonl'), (entry) => {
    apply(index, entry);
  });
  return {
    cutBytes: log.cutBytes + attempts.cutBytes,
    /** A key's place in the log, or undefined when no operation is recorded under it. */
    key: (idempotency_key: string) => index.keys.get(idempotency_key),
    charge: (charge_id: string) => index.charges.get(charge_id),
    charges: () => index.charges.values(),
    /** Writes a record down, then believes it; answers its position. */
    async commit(record: OperationRecord): Promise<number> {
      const entry = await log.append(record);
      apply(index, entry);
      return entry.position;
    },
    /** Writes down that a key failed its first attempt; false when it had already. A restart does not forget it. */
    async commitAttempt(idempotency_key: string, request_hash: string): Promise<boolean> {
      if (index.attempts.has(idempotency_key)) return false;
      await attempts.append({ idempotency_key, request_hash });
      index.attempts.set(idempotency_key, request_hash);
      return true;
    },
    /** The record that answers this very request, or undefined when the key is new. Throws when it is another's. */
    async recorded(idempotency_key: string, request_hash: string): Promise<OperationRecord | undefined> {
      const known = index.keys.get(idempotency_key);
      if (known?.cancelled) throw operationCancelled();
      const expected = known?.request_hash ?? index.attempts.get(idempotency_key) ?? request_hash;
      if (expected !== request_hash) throw keyReused();
      return known && this.read(known.position);
    },
    /** The one record at a position that the index names. */
    async read(position: number): Promise<Entry<OperationRecord>> {
      const [entry] = await log.read(position - 1, 1);
      if (entry === undefined) throw new Error(`the log has no record ${position}`);
      return entry;
    },
    page: log.read,
    last: log.last,
    /** Why nothing can be written any more, or undefined. */
    failure: () => log.failure() ?? attempts.failure(),
    async close(): Promise<void> {
      await Promise.all([log.close(), attempts.close()]);
      unlock();
    },
  };
}

/** Used alike for a record just written and for one read back at start, so that a restart changes nothing. */
function apply(index: Index, entry: Entry<OperationRecord>): void {
  const { position, request_hash, capture_rule, webhook_rule, operation } = entry;
  const { idempotency_key, charge } = operation;
  if (idempotency_key !== null) {
    index.keys.set(idempotency_key, { position, request_hash, cancelled: operation.status === 'cancelled' });
    index.attempts.delete(idempotency_key);
  }
  if (charge === null) return;
  const known = index.charges.get(charge.charge_id);
  index.charges.set(charge.charge_id, {
    charge,
    capture_rule,
    webhook_rule: known?.webhook_rule ?? webhook_rule,
    authorization_key: known ? known.authorization_key : idempotency_key,
  });
}
