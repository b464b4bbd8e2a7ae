import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { CaptureRule, ReturnRule, WebhookRule } from './cards.ts';
import type { Charge } from './charge.ts';
import { keyReused, operationCancelled } from './errors.ts';
import { lockDirectory } from './lock.ts';
import { type Entry, openLog } from './log.ts';
import type { AttemptRecord, MethodRecord, OperationRecord } from './record.ts';

/**
 * The index of the logs, in memory: about 800 bytes for a charge with its first key, and 350 for each further key,
 * so memory is linear in both and a million charges fit into 900 MB. Everything else is read from the file when asked
 * for. It changes only by records that are durable.
 */
type Index = {
  keys: Map<string, KnownKey>;
  /** Where each operation is in the log. */
  positions: Map<string, number>;
  /** Tokens that were issued to customers. */
  methods: Map<string, MethodRecord>;
  charges: Map<string, KnownCharge>;
  /** Keys with a failed first attempt that have not acted yet, and the request they came with. */
  attempts: Map<string, string>;
};

type KnownKey = { position: number; request_hash: string | null; cancelled: boolean; created_ms: number };

type KnownCharge = {
  charge: Charge;
  /** Of its operations, in their order. */
  positions: number[];
  capture_rule: CaptureRule;
  return_rule: ReturnRule;
  webhook_rule: WebhookRule | undefined;
  /** The key that the charge was authorized with. */
  authorization_key: string | null;
};

export type Book = Awaited<ReturnType<typeof openBook>>;

/**
 * Opens the logs of a data directory for this process alone and rebuilds the index from them. A key that was recorded
 * longer ago than `keyRetentionMs` counts as new.
 */
export async function openBook(dataDirectory: string, keyRetentionMs = Number.POSITIVE_INFINITY) {
  await mkdir(dataDirectory, { recursive: true, mode: 0o700 });
  const unlock = lockDirectory(dataDirectory);
  const index = emptyIndex();
  const attempts = await openLog<AttemptRecord>(join(dataDirectory, 'attempts.jsonl'), (attempt) => {
    index.attempts.set(attempt.idempotency_key, attempt.request_hash);
  });
  const methods = await openLog<MethodRecord>(join(dataDirectory, 'payment-methods.jsonl'), (method) => {
    index.methods.set(method.payment_method, method);
  });
  const keyOf = (idempotency_key: string) => {
    const known = index.keys.get(idempotency_key);
    return known && Date.now() - known.created_ms < keyRetentionMs ? known : undefined;
  };
  const log = await openLog<OperationRecord>(join(dataDirectory, 'operations.jsonl'), (entry) => {
    apply(index, entry);
  });
  return {
    cutBytes: log.cutBytes + attempts.cutBytes + methods.cutBytes,
    /** The position of a key's operation, or undefined when the key has none. */
    key: keyOf,
    position: (operation_id: string) => index.positions.get(operation_id),
    method: (payment_method: string) => index.methods.get(payment_method),
    /** Records a token before a response contains it. */
    async commitMethod(method: MethodRecord): Promise<void> {
      await methods.append(method);
      index.methods.set(method.payment_method, method);
    },
    charge: (charge_id: string) => index.charges.get(charge_id),
    charges: () => index.charges.values(),
    /** Appends a record, then applies it to the index. Returns its position. */
    async commit(record: OperationRecord): Promise<number> {
      const entry = await log.append(record);
      apply(index, entry);
      return entry.position;
    },
    /** Records the failed first attempt of a key, durably. Returns false when it is recorded already. */
    async commitAttempt(idempotency_key: string, request_hash: string): Promise<boolean> {
      if (index.attempts.has(idempotency_key)) return false;
      await attempts.append({ idempotency_key, request_hash });
      index.attempts.set(idempotency_key, request_hash);
      return true;
    },
    /** The record of the same request, or undefined when the key is new. Throws when the key has another request. */
    async recorded(idempotency_key: string, request_hash: string): Promise<OperationRecord | undefined> {
      const known = keyOf(idempotency_key);
      if (known?.cancelled) throw operationCancelled();
      const expected = known?.request_hash ?? index.attempts.get(idempotency_key) ?? request_hash;
      if (expected !== request_hash) throw keyReused();
      return known && this.read(known.position);
    },
    /** The record at a position. */
    async read(position: number): Promise<Entry<OperationRecord>> {
      const [entry] = await log.read(position - 1, 1);
      if (entry === undefined) throw new Error(`the log has no record ${position}`);
      return entry;
    },
    page: log.read,
    last: log.last,
    /** Why nothing can be written any more, or undefined. */
    failure: () => log.failure() ?? attempts.failure() ?? methods.failure(),
    async close(): Promise<void> {
      await Promise.all([log.close(), attempts.close(), methods.close()]);
      unlock();
    },
  };
}

const emptyIndex = (): Index => ({
  keys: new Map(),
  positions: new Map(),
  methods: new Map(),
  charges: new Map(),
  attempts: new Map(),
});

/** Applies a record that was just written or replayed at the start, so that a restart gives the same index. */
function apply(index: Index, entry: Entry<OperationRecord>): void {
  const { position, request_hash, capture_rule, return_rule, webhook_rule, operation } = entry;
  const { idempotency_key, charge } = operation;
  if (idempotency_key !== null) {
    const cancelled = operation.status === 'cancelled';
    const created_ms = Date.parse(operation.created_at);
    index.keys.set(idempotency_key, { position, request_hash, cancelled, created_ms });
    index.attempts.delete(idempotency_key);
  }
  index.positions.set(operation.operation_id, position);
  if (charge === null) return;
  const known = index.charges.get(charge.charge_id);
  index.charges.set(charge.charge_id, {
    charge,
    positions: known ? append(known.positions, position) : [position],
    capture_rule,
    return_rule: known?.return_rule ?? return_rule ?? 'answer',
    webhook_rule: known?.webhook_rule ?? webhook_rule,
    authorization_key: known ? known.authorization_key : idempotency_key,
  });
}

function append(positions: number[], position: number): number[] {
  positions.push(position);
  return positions;
}
