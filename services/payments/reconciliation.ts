/**
 * Reconciles ledger and acquirer, a page at a time so that memory stays flat: first the acquirer's log against the
 * ledger, then the ledger against the acquirer. Two kinds of differences can be resolved: an operation without an
 * outcome, by asking under its key, and a hold that has ended at the acquirer. Entries are never made up.
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

/** As many operations as one lookup at the acquirer may name. */
export const pageSize = 100;
/** Kept back from a call's deadline: what is not resolved by then stays a difference. */
const resolveReserveMs = 5_000;

/** One page on the demand of a person. */
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

/** A page that was compared. */
export interface ComparedPage extends Comparison {
  compared: number;
  /** The position of the last record that was compared; where the page began when there was none. */
  last: string;
  /** There may be more that is old enough to be compared. */
  more: boolean;
}

/** What the acquirer knows: a page of its log after a position, as far as it is older than the grace. */
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

/** Compares records of the acquirer's log with everything that is known here about them, in four statements. */
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

/** What the ledger knows: a page of its entries after a position, as far as they are older than the grace. */
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

/** Compares entries with the operations that the acquirer has under their ids, in one request. */
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

/** Resolves what can be, one after another, as long as the call has time. */
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
      // The record may be the end of a hold whose authorization had no outcome either.
      if (difference.kind === 'OUTCOME_MISSING' && result.resolved) await resolveHold(dependencies, call, difference);
      all.set(difference, result);
    } catch (error) {
      // It stays a difference, and keeps no other from being resolved.
      const { externalId, operationId } = difference;
      if (!(error instanceof RpcError)) call.log.error({ err: error, externalId, operationId }, 'not resolved');
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
    // Another process may have been faster: then nothing was resolved here.
    if (current.operation.state === 'PENDING') await noteResolution(tx, call, before, operation);
    return operation;
  });
  const { kind, paymentId } = before;
  call.log.info({ operationId, paymentId, kind, after: after.state }, 'an operation was resolved');
  return { resolved: after.state !== 'PENDING', result: after.state };
}

/** By its key, or by the record of the acquirer's log, which the acquirer keeps for longer than keys. */
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

/** The acquirer's log is asked once more, since only what it says now counts. */
async function resolveHold(
  { db, store, acquirer }: OperationDependencies,
  call: CallContext,
  { paymentId }: LedgerDifference,
) {
  const payment = await db.read(call, (sql) => store.payment(sql, paymentId));
  if (!payment) throw new Error(`payment ${paymentId} is gone`);
  if (payment.state !== 'AUTHORIZED') return { resolved: true, result: payment.state };
  const ended = await acquirer.holdEnd(call, payment.chargeId);
  if (!ended) return { resolved: false, result: 'the acquirer does not confirm it' };
  // A void of ours has its own outcome, which is recorded as such.
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
  call.log.info({ paymentId, state: after.state }, 'a hold that has ended was resolved');
  return { resolved: after.state !== 'AUTHORIZED', result: after.state };
}

/** A difference as callers see it. */
export function toMessage(found: LedgerDifference, resolved: Resolved = { resolved: false, result: '' }): Difference {
  const { externalId, operationId, paymentId, ours, theirs } = found;
  const kind = DifferenceKind[`DIFFERENCE_KIND_${found.kind}`];
  return { kind, externalId, operationId, paymentId, ours, theirs, ...resolved, firstSeenTime: undefined };
}
