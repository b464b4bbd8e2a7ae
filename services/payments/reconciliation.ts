/**
 * Reconciles ledger and acquirer page by page, so that memory use is bounded: first the acquirer's log against the
 * ledger, then the ledger against the acquirer. Two kinds of differences can be resolved: an operation without an
 * outcome, by a status request for its key, and a hold that has ended at the acquirer. No entry is written without a
 * confirmed outcome.
 */
import { type Difference, DifferenceKind, type ReconcileLedgerResponse } from '@armature/proto/payments/v1/ledger.ts';
import { type CallContext, principalOf, RpcError } from '@armature/runtime';
import { pageTokenInvalid } from '@armature/runtime/errors';
import { perform } from './acquirer-operations.ts';
import type { LoggedOperation } from './acquirer-page.ts';
import { type Comparison, compareLines, compareRecords, type LedgerDifference } from './comparison.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import { readOperationStatus } from './operation-status.ts';
import type { Operation, Outcome } from './payment.ts';
import {
  type LedgerLine,
  linesAfter,
  linesOf,
  operationsOf,
  paymentsOf,
  recordResolution,
} from './reconciliation-store.ts';
import { findByKey, findOperation } from './store.ts';
import { isOperationId } from './webhook.ts';

export interface ReconcileOptions {
  pageToken: string;
  apply: boolean;
  graceSeconds: number;
}

export type Reconcile = (call: CallContext, options: ReconcileOptions) => Promise<ReconcileLedgerResponse>;

/** The most operations that one lookup at the acquirer may name. */
export const pageSize = 100;
/** Resolving stops this long before the call's deadline. The other differences stay unresolved. */
const resolveReserveMs = 5_000;

/** Compares one page, for the RPC ReconcileLedger. */
export function reconciliation(dependencies: OperationDependencies): Reconcile {
  return async (call, { pageToken, apply, graceSeconds }) => {
    const match = /^(?:(acquirer|ledger):(\d{1,15}))?$/.exec(pageToken);
    if (!match) throw pageTokenInvalid();
    const after = match[2] ?? '0';
    const page =
      match[1] === 'ledger'
        ? await ledgerPage(dependencies, call, after, graceSeconds)
        : await acquirerPage(dependencies, call, after, graceSeconds);
    const resolved = apply
      ? await resolveAll(dependencies, call, page.differences)
      : new Map<LedgerDifference, Resolved>();
    const direction = match[1] ?? 'acquirer';
    const nextPageToken = page.more ? `${direction}:${page.last}` : direction === 'acquirer' ? 'ledger:0' : '';
    return {
      differences: page.differences.map((one) => toMessage(one, resolved.get(one))),
      compared: page.compared,
      nextPageToken,
      ignored: [...page.ignored].map(([kind, count]) => ({ kind, count })),
    };
  };
}

/** A compared page. */
export interface ComparedPage extends Comparison {
  compared: number;
  /** The position of the last compared record, or the start of the page where there was none. */
  last: string;
  /** More records may be old enough to be compared. */
  more: boolean;
}

/** Compares a page of the acquirer's log after a position, up to the first record younger than the grace period. */
export async function acquirerPage(
  dependencies: OperationDependencies,
  call: CallContext,
  after: string,
  graceSeconds: number,
): Promise<ComparedPage> {
  const { operations, hasMore } = await dependencies.acquirer.page(call, Number(after), pageSize);
  const oldest = Date.now() - graceSeconds * 1_000;
  const young = operations.findIndex(({ createTime }) => createTime.getTime() > oldest);
  const due = young < 0 ? operations : operations.slice(0, young);
  const comparison = await compareWithLedger(dependencies, call, due);
  return { ...comparison, compared: due.length, last: due.at(-1)?.position ?? after, more: hasMore && young < 0 };
}

/** Compares records of the acquirer's log with the stored data, which four statements read. */
export async function compareWithLedger(
  { db }: OperationDependencies,
  call: CallContext,
  records: readonly LoggedOperation[],
): Promise<Comparison> {
  const keys = records.map(({ key }) => key).filter(isOperationId);
  const charges = records.map(({ chargeId }) => chargeId).filter((id) => id !== '');
  const known = await db.read(call, async (sql) => {
    const operations = await operationsOf(sql, [...new Set(keys)]);
    const ids = [...records, ...operations.values()].map(({ externalId }) => externalId).filter((id) => id !== '');
    const lines = await linesOf(sql, [...new Set(ids)]);
    return { operations, lines, payments: await paymentsOf(sql, [...new Set(charges)]) };
  });
  return compareRecords(records, known);
}

/** Compares a page of ledger entries after a position, up to the first entry younger than the grace period. */
export async function ledgerPage(
  dependencies: OperationDependencies,
  call: CallContext,
  after: string,
  graceSeconds: number,
): Promise<ComparedPage> {
  const lines = await dependencies.db.read(call, (sql) => linesAfter(sql, after, { limit: pageSize, graceSeconds }));
  const comparison = await compareWithAcquirer(dependencies, call, lines);
  const more = lines.length === pageSize;
  return { ...comparison, compared: lines.length, last: lines.at(-1)?.position ?? after, more };
}

/** Compares entries with the acquirer's operations of the same ids, which one request reads. */
export async function compareWithAcquirer(
  { acquirer }: OperationDependencies,
  call: CallContext,
  lines: readonly LedgerLine[],
): Promise<Comparison> {
  const ids = lines.map(({ externalId }) => externalId).filter((id) => acquirerIdPattern.test(id));
  const logged = ids.length > 0 ? await acquirer.lookUp(call, ids) : [];
  return compareLines(lines, new Set(logged.map(({ externalId }) => externalId)));
}

export const acquirerIdPattern = /^op_[0-9a-f]{32}$/;

export type Resolved = Pick<Difference, 'resolved' | 'result'>;

/** Resolves differences where possible, one after another, while the call has time. */
export async function resolveAll(
  dependencies: OperationDependencies,
  call: CallContext,
  differences: readonly LedgerDifference[],
): Promise<Map<LedgerDifference, Resolved>> {
  const all = new Map<LedgerDifference, Resolved>();
  for (const difference of differences) {
    if (difference.kind !== 'OUTCOME_MISSING' && difference.kind !== 'HOLD_ENDED') continue;
    if (call.signal.aborted || call.deadline - Date.now() < resolveReserveMs) break;
    try {
      const result =
        difference.kind === 'HOLD_ENDED'
          ? await resolveHold(dependencies, call, difference)
          : await resolveOutcome(dependencies, call, difference);
      // The record may end a hold whose authorization also had no outcome.
      if (difference.kind === 'OUTCOME_MISSING' && result.resolved) await resolveHold(dependencies, call, difference);
      all.set(difference, result);
    } catch (error) {
      // The difference stays unresolved; the loop continues with the others.
      const { externalId, operationId } = difference;
      if (!(error instanceof RpcError))
        call.log.error({ err: error, externalId, operationId }, 'a difference could not be resolved');
      all.set(difference, { resolved: false, result: error instanceof RpcError ? error.reason : 'INTERNAL' });
    }
  }
  return all;
}

async function resolveOutcome(
  dependencies: OperationDependencies,
  call: CallContext,
  found: LedgerDifference,
): Promise<Resolved> {
  const { db, store } = dependencies;
  const { operationId } = found;
  const { operation: before, payment } = await db.read(call, async (sql) => {
    const operation = await findOperation(sql, operationId);
    return { operation, payment: operation && (await store.payment(sql, operation.paymentId)) };
  });
  if (!before || !payment) throw new Error(`operation ${operationId} belongs to no payment`);
  if (before.state !== 'PENDING') return { resolved: true, result: before.state };
  const outcome =
    before.kind === 'authorize'
      ? await findAuthorization(dependencies, call, before, found.externalId)
      : await perform(dependencies, call, { payment, operation: before });
  if (!outcome) return { resolved: false, result: 'the acquirer does not confirm it' };
  const after = await db.transaction(call, async (tx) => {
    const current = await store.completeOperation(tx, before, null);
    const { operation } = await store.completeOperation(tx, before, outcome);
    // Where another process has completed it, nothing was resolved here.
    if (current.operation.state === 'PENDING') await noteResolution(tx, call, before, operation);
    return operation;
  });
  const { kind, paymentId } = before;
  call.log.info({ operationId, paymentId, kind, after: after.state }, 'resolved an operation');
  return { resolved: after.state !== 'PENDING', result: after.state };
}

/** Looks up an authorization by its key, or by its record in the acquirer's log, which is kept longer than keys. */
async function findAuthorization(
  { acquirer }: OperationDependencies,
  call: CallContext,
  { kind, key }: Operation,
  externalId: string,
): Promise<Outcome | null> {
  const found = await acquirer.find(call, kind, key);
  if (found) return found;
  const [record] = await acquirer.lookUp(call, [externalId]);
  if (record?.key !== key) return null;
  const status = readOperationStatus(kind, { status: 200, body: record.body });
  return status.kind === 'acted' || status.kind === 'declined' ? status : null;
}

function noteResolution(
  tx: Parameters<typeof recordResolution>[0],
  call: CallContext,
  before: Operation,
  after: Operation,
) {
  const { operationId } = before;
  const resolvedBy = principalOf(call.caller);
  return recordResolution(tx, {
    ...{ resolvedBy, operationId, externalId: after.externalId },
    ...{ before: before.state, after: after.state },
  });
}

/** Reads the acquirer's log again, because only its current state counts. */
async function resolveHold(
  { db, store, acquirer }: OperationDependencies,
  call: CallContext,
  { paymentId }: LedgerDifference,
) {
  const payment = await db.read(call, (sql) => store.payment(sql, paymentId));
  if (!payment) throw new Error(`payment ${paymentId} does not exist`);
  if (payment.state !== 'AUTHORIZED') return { resolved: true, result: payment.state };
  const ended = await acquirer.holdEnd(call, payment.chargeId);
  if (!ended) return { resolved: false, result: 'the acquirer does not confirm it' };
  // A void of this service has its own outcome, which is recorded as a void.
  const own = isOperationId(ended.key) && (await db.read(call, (sql) => findByKey(sql, ended.key)));
  if (own) return { resolved: false, result: 'a void of this service has ended it' };
  const after = await db.transaction(call, async (tx) => {
    const { payment: now, changed } = await store.endHold(tx, paymentId, ended.end);
    if (changed) {
      await recordResolution(tx, {
        ...{ resolvedBy: principalOf(call.caller), operationId: payment.authorizeOperationId ?? '' },
        ...{ before: payment.state, after: now.state, externalId: ended.end.externalId },
      });
    }
    return now;
  });
  call.log.info({ paymentId, state: after.state }, 'recorded the end of a hold');
  return { resolved: after.state !== 'AUTHORIZED', result: after.state };
}

/** The message of a difference. */
export function toMessage(found: LedgerDifference, resolved: Resolved = { resolved: false, result: '' }): Difference {
  const { externalId, operationId, paymentId, ours, theirs } = found;
  const kind = DifferenceKind[`DIFFERENCE_KIND_${found.kind}`];
  return { kind, externalId, operationId, paymentId, ours, theirs, ...resolved, firstSeenTime: undefined };
}
