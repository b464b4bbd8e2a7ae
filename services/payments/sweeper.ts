import { type Background, type CallContext, type PeriodicJob, RpcError } from '@armature/runtime';
import { type OperationParts, perform, settleCancelled } from './operations.ts';
import type { Overdue } from './store.ts';

export interface SweeperOptions {
  background: Background;
  everyMs: number;
  /** Authorizations that the acquirer has not heard of are cancelled once their caller is silent for so long. */
  abandonMs: number;
}

const batch = 16;
const resolveTimeoutMs = 15_000;

/**
 * Brings operations to their end whose callers did not come back, so that the ledger catches up with the
 * acquirer whatever died in between. It asks under the same keys as the callers, so racing them is harmless.
 */
export function pendingSweeper(parts: OperationParts, options: SweeperOptions): PeriodicJob {
  const { background, everyMs, abandonMs } = options;
  return {
    name: 'operations without an outcome',
    everyMs,
    async run(call) {
      const overdue = await parts.db.transaction(call, (tx) => parts.store.claimOverdue(tx, batch));
      // Each has a call of its own, because one that waits for the acquirer must not hold up the others.
      await Promise.all(
        overdue.map(async (one) => {
          const own = background(`resolve ${one.operation.kind}`, resolveTimeoutMs);
          try {
            await resolve(parts, own, one, abandonMs);
          } finally {
            own.close();
          }
        }),
      );
      return overdue.length;
    },
  };
}

async function resolve(parts: OperationParts, call: CallContext, overdue: Overdue, abandonMs: number): Promise<void> {
  const { kind, operationId, paymentId } = overdue.operation;
  try {
    const done =
      kind === 'authorize'
        ? await resolveAuthorization(parts, call, overdue, abandonMs)
        : await repeat(parts, call, overdue);
    if (done) call.log.info({ kind, operationId, paymentId }, 'an operation without a caller was brought to its end');
  } catch (error) {
    // It stays pending and is due again later; an acquirer that is away is no reason to stop the sweep.
    const level = error instanceof RpcError && expected.has(error.code) ? 'warn' : 'error';
    call.log[level]({ err: error, kind, operationId, paymentId }, 'an operation has no outcome yet');
  }
}

/** The acquirer is away, or an operator is needed, which the list of such operations shows. */
const expected: ReadonlySet<string> = new Set(['UNAVAILABLE', 'ABORTED']);

/** Captures, voids and refunds are asked for again: somebody wanted them, and their keys make that safe. */
async function repeat(parts: OperationParts, call: CallContext, overdue: Overdue): Promise<boolean> {
  const outcome = await perform(parts, call, overdue);
  await parts.db.transaction(call, (tx) => parts.store.settle(tx, overdue.operation, outcome));
  return true;
}

/**
 * An authorization can only be looked up, since the card token is nowhere but in the request. Nothing
 * found is no outcome: the request may be on its way still, until it is cancelled for good. One that is too old, so
 * that the acquirer may have forgotten its key, needs an operator instead.
 */
async function resolveAuthorization(
  parts: OperationParts,
  call: CallContext,
  overdue: Overdue,
  abandonMs: number,
): Promise<boolean> {
  const { db, store, acquirer } = parts;
  const outcome = await acquirer.find(call, 'authorize', overdue.operation.key);
  if (outcome) await db.transaction(call, (tx) => store.settle(tx, overdue.operation, outcome));
  else if (overdue.idleMs >= abandonMs) await settleCancelled(parts, call, overdue.operation);
  else return false;
  return true;
}
