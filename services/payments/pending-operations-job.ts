import { type Background, type CallContext, type PeriodicJob, RpcError } from '@armature/runtime';
import { cancelAuthorization, perform } from './acquirer-operations.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import type { OverdueOperation } from './pending-store.ts';

export interface PendingOperationsOptions {
  background: Background;
  everyMs: number;
  /** An authorization without a record at the acquirer is cancelled this long after its caller's last attempt. */
  abandonMs: number;
}

const batchMax = 16;
const resolveTimeoutMs = 15_000;

/**
 * The periodic job that completes operations whose callers have not retried, so that the ledger agrees with the
 * acquirer after any crash. It uses the same keys as the callers, so running at the same time as a caller is safe.
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
      // Each has its own call context, so that a slow request to the acquirer does not delay the others.
      await Promise.all(
        overdue.map(async (pending) => {
          const own = background(`resolve ${pending.operation.kind}`, resolveTimeoutMs, { parent: call });
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
        : await repeatRequest(dependencies, call, overdue);
    if (done) call.log.info({ kind, operationId, paymentId }, 'completed a pending operation');
  } catch (error) {
    // The operation stays pending and is due again later. The job continues with the other operations.
    const level = error instanceof RpcError && expected.has(error.code) ? 'warn' : 'error';
    call.log[level]({ err: error, kind, operationId, paymentId }, 'a pending operation could not be completed');
  }
}

/** The acquirer is unavailable, or the operation needs an operator, which its list shows. */
const expected: ReadonlySet<string> = new Set(['UNAVAILABLE', 'ABORTED']);

/** Repeats the request of a capture, void or refund, which is safe under the same key. */
async function repeatRequest(
  dependencies: OperationDependencies,
  call: CallContext,
  overdue: OverdueOperation,
): Promise<boolean> {
  const outcome = await perform(dependencies, call, overdue);
  await dependencies.db.transaction(call, (tx) => dependencies.store.completeOperation(tx, overdue.operation, outcome));
  return true;
}

/**
 * Looks up an authorization. It cannot be sent again, because only its request contains the card token. Without a
 * record at the acquirer, its request may still arrive, so it is cancelled after `abandonMs`. An authorization with a
 * key that the acquirer may have deleted needs an operator.
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
