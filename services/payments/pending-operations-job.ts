import { type Background, type CallContext, type PeriodicJob, RpcError } from '@armature/runtime';
import { cancelAuthorization, perform } from './acquirer-operations.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import type { OverdueOperation } from './pending-store.ts';

export interface PendingOperationsOptions {
  background: Background;
  everyMs: number;
  /** Authorizations that the acquirer has not heard of are cancelled once their caller is silent for so long. */
  abandonMs: number;
}

const batchMax = 16;
const resolveTimeoutMs = 15_000;

/**
 * Brings operations to their end whose callers did not come back, so that the ledger catches up with the
 * acquirer whatever died in between. It asks under the same keys as the callers, so racing them is harmless.
 */
export function pendingOperationsJob(
  dependencies: OperationDependencies,
  options: PendingOperationsOptions,
): PeriodicJob {
  const { background, everyMs, abandonMs } = options;
  return {
    name: 'operations without an outcome',
    everyMs,
    async run(call) {
      const overdue = await dependencies.db.transaction(call, (tx) => dependencies.store.claimOverdue(tx, batchMax));
      // Each has a call of its own, because one that waits for the acquirer must not hold up the others.
      await Promise.all(
        overdue.map(async (pending) => {
          const own = background(`resolve ${pending.operation.kind}`, resolveTimeoutMs);
          try {
            await resolve(dependencies, own, pending, abandonMs);
          } finally {
            own.close();
          }
        }),
      );
      return overdue.length;
    },
  };
}

async function resolve(
  dependencies: OperationDependencies,
  call: CallContext,
  overdue: OverdueOperation,
  abandonMs: number,
): Promise<void> {
  const { kind, operationId, paymentId } = overdue.operation;
  try {
    const done =
      kind === 'authorize'
        ? await resolveAuthorization(dependencies, call, overdue, abandonMs)
        : await repeat(dependencies, call, overdue);
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
async function repeat(
  dependencies: OperationDependencies,
  call: CallContext,
  overdue: OverdueOperation,
): Promise<boolean> {
  const outcome = await perform(dependencies, call, overdue);
  await dependencies.db.transaction(call, (tx) => dependencies.store.completeOperation(tx, overdue.operation, outcome));
  return true;
}

/**
 * An authorization can only be looked up, since the card token is nowhere but in the request. Nothing
 * found is no outcome: the request may be on its way still, until it is cancelled for good. One that is too old, so
 * that the acquirer may have forgotten its key, needs an operator instead.
 */
async function resolveAuthorization(
  dependencies: OperationDependencies,
  call: CallContext,
  overdue: OverdueOperation,
  abandonMs: number,
): Promise<boolean> {
  const { db, store, acquirer } = dependencies;
  const outcome = await acquirer.find(call, 'authorize', overdue.operation.key);
  if (outcome) await db.transaction(call, (tx) => store.completeOperation(tx, overdue.operation, outcome));
  else if (overdue.idleMs >= abandonMs) await cancelAuthorization(dependencies, call, overdue.operation);
  else return false;
  return true;
}
