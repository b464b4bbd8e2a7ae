/**
 * Compares ledger and acquirer, a page at a time so that memory stays flat: first the acquirer's log against the
 * ledger, then the ledger against the acquirer. What can be resolved is an operation without an outcome, and it is
 * resolved as the sweeper would: by asking under its key and settling the answer. Entries are never made up.
 */
import { type Difference, DifferenceKind, type ReconcileLedgerResponse } from '@armature/proto/payments/v1/ledger.ts';
import { type Call, RpcError } from '@armature/runtime';
import { principalOf } from '@armature/runtime/rpc/call.ts';
import { pageTokenInvalid } from '@armature/runtime/rpc/errors.ts';
import type { LoggedOperation } from './acquirer-page.ts';
import { type OperationParts, perform } from './operations.ts';
import type { EntryKind, Operation } from './payment.ts';
import { type LedgerLine, linesAfter, linesOf, operationsOf, recordResolution } from './reconciliation-store.ts';
import { isOperationId } from './webhook.ts';

export interface ReconcileOptions {
  pageToken: string;
  apply: boolean;
  graceSeconds: number;
}

export type Reconcile = (call: Call, options: ReconcileOptions) => Promise<ReconcileLedgerResponse>;

/** As many operations as fit into one answer of the acquirer; and questions that are asked one after the other. */
const pageSize = 50;

/** What moved money at the acquirer, and what our ledger calls it. A pending authorization has not, or not yet. */
const moved: Readonly<Record<string, EntryKind>> = {
  'authorization authorized': 'authorize',
  'capture captured': 'capture',
  'void voided': 'void',
  'refund refunded': 'refund',
  'expiration expired': 'expire',
};

export function reconciliation(parts: OperationParts): Reconcile {
  return async (call, options) => {
    const match = /^(?:(acquirer|ledger):(\d{1,15}))?$/.exec(options.pageToken);
    if (!match) throw pageTokenInvalid();
    const after = match[2] ?? '0';
    return match[1] === 'ledger' ? ledgerPage(parts, call, after) : acquirerPage(parts, call, Number(after), options);
  };
}

/** What the acquirer knows and we do not. */
async function acquirerPage(
  parts: OperationParts,
  call: Call,
  after: number,
  { apply, graceSeconds }: ReconcileOptions,
): Promise<ReconcileLedgerResponse> {
  const { operations, nextAfter, hasMore } = await parts.acquirer.page(call, after, pageSize);
  const settledBefore = Date.now() - graceSeconds * 1_000;
  const due = operations.filter(({ createTime }) => createTime.getTime() <= settledBefore);
  const ids = due.map(({ key }) => key).filter(isOperationId);
  const [own, lines] = await parts.db.read(call, async (sql) => [
    await operationsOf(sql, ids),
    await linesOf(
      sql,
      due.map(({ externalId }) => externalId),
    ),
  ]);
  const differences: Difference[] = [];
  for (const their of due) {
    const operation = own.get(their.key);
    const difference = differenceOf(their, operation, lines.get(their.externalId));
    if (!difference) continue;
    const resolvable = apply && operation && difference.kind === DifferenceKind.DIFFERENCE_KIND_OUTCOME_MISSING;
    differences.push(resolvable ? { ...difference, ...(await resolve(parts, call, operation)) } : difference);
  }
  const nextPageToken = hasMore ? `acquirer:${nextAfter}` : 'ledger:0';
  return { differences, compared: operations.length, nextPageToken };
}

function differenceOf(
  their: LoggedOperation,
  operation: Operation | undefined,
  line: LedgerLine | undefined,
): Difference | null {
  const kind = moved[`${their.kind} ${their.status}`];
  const theirs = `${kind ?? `${their.kind} ${their.status}`} of ${their.amountMinor} ${their.currencyCode}`;
  const found = (difference: DifferenceKind, ours: string): Difference => ({
    kind: difference,
    externalId: their.externalId,
    operationId: operation?.operationId ?? '',
    paymentId: operation?.paymentId ?? '',
    ours,
    theirs,
    resolved: false,
    result: '',
  });
  // A void that was refused has its refusal; an operator ends it.
  const decidedHere = operation?.needsOperator && their.status === 'refused';
  if (operation?.state === 'PENDING' && their.kind !== 'cancellation' && !decidedHere) {
    return found(DifferenceKind.DIFFERENCE_KIND_OUTCOME_MISSING, `${operation.kind} without an outcome`);
  }
  if (!kind) return null;
  const ours = line ? textOf(line) : '';
  if (!line) return found(DifferenceKind.DIFFERENCE_KIND_NOT_IN_LEDGER, operation?.state ?? '');
  return ours === theirs ? null : found(DifferenceKind.DIFFERENCE_KIND_DISAGREEMENT, ours);
}

const textOf = ({ kind, amountMinor, currencyCode }: LedgerLine) => `${kind} of ${amountMinor} ${currencyCode}`;

async function resolve(
  parts: OperationParts,
  call: Call,
  before: Operation,
): Promise<Pick<Difference, 'resolved' | 'result'>> {
  const { db, store, acquirer } = parts;
  const { kind, operationId, paymentId } = before;
  try {
    const payment = await db.read(call, (sql) => store.payment(sql, paymentId));
    if (!payment) throw new Error(`operation ${operationId} belongs to no payment`);
    const outcome =
      kind === 'authorize'
        ? await acquirer.find(call, kind, operationId)
        : await perform(parts, call, { payment, operation: before });
    if (!outcome) return { resolved: false, result: 'the acquirer does not confirm it' };
    const after = await db.transaction(call, async (tx) => {
      const standing = await store.settle(tx, before, null);
      const { operation } = await store.settle(tx, before, outcome);
      // Somebody else may have been faster: then nothing was resolved here.
      if (standing.operation.state === 'PENDING') {
        await recordResolution(tx, { resolvedBy: principalOf(call.caller), before, after: operation });
      }
      return operation;
    });
    call.log.info(
      { operationId, paymentId, kind, before: before.state, after: after.state },
      'an operation was resolved',
    );
    return { resolved: true, result: after.state };
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    return { resolved: false, result: error.reason };
  }
}

/** What we believe and the acquirer does not know. Findings of operators are ours alone. */
async function ledgerPage(parts: OperationParts, call: Call, after: string): Promise<ReconcileLedgerResponse> {
  const lines = await parts.db.read(call, (sql) => linesAfter(sql, after, pageSize));
  const ids = lines.map(({ externalId }) => externalId).filter((id) => /^op_[0-9a-f]{32}$/.test(id));
  const logged = ids.length > 0 ? await parts.acquirer.lookUp(call, ids) : [];
  const known = new Set(logged.map(({ externalId }) => externalId));
  const differences: Difference[] = [];
  for (const line of lines) {
    if (known.has(line.externalId) || line.kind === 'release' || line.kind === 'refund_outside') continue;
    differences.push({
      kind: DifferenceKind.DIFFERENCE_KIND_NOT_AT_ACQUIRER,
      externalId: line.externalId,
      operationId: line.operationId,
      paymentId: line.paymentId,
      ours: textOf(line),
      theirs: '',
      resolved: false,
      result: '',
    });
  }
  const last = lines.length === pageSize ? lines.at(-1) : undefined;
  return { differences, compared: lines.length, nextPageToken: last ? `ledger:${last.position}` : '' };
}
