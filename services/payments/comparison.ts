/**
 * Compares the acquirer's log with the ledger by external id. Every record of the log is compared, or counted as
 * ignored by its kind and status. A record of an unknown kind is a difference.
 */

import type { LoggedOperation } from './acquirer-page.ts';
import type { EntryKind, Operation, Payment } from './payment.ts';
import type { LedgerLine } from './reconciliation-store.ts';

export const differenceKinds = [
  'OUTCOME_MISSING',
  'NOT_IN_LEDGER',
  'NOT_AT_ACQUIRER',
  'DISAGREEMENT',
  'HOLD_ENDED',
  'RECORD_UNKNOWN',
] as const;
export type DifferenceName = (typeof differenceKinds)[number];

/** A difference between ledger and acquirer. */
export interface LedgerDifference {
  readonly kind: DifferenceName;
  /** The position of the record in the acquirer's log, or of the entry in the ledger. */
  readonly position: string;
  readonly externalId: string;
  readonly operationId: string;
  readonly paymentId: string;
  readonly ours: string;
  readonly theirs: string;
}

/** The stored data about the records of a page, read in a few statements. */
export interface LocalRecords {
  /** Operations by acquirer key. */
  readonly operations: ReadonlyMap<string, Operation>;
  /** Entries by external id. */
  readonly lines: ReadonlyMap<string, LedgerLine>;
  /** Payments by charge. */
  readonly payments: ReadonlyMap<string, Payment>;
}

/** The meaning of a record of the acquirer's log. */
type Meaning =
  /** It moved an amount; the ledger has an entry of this kind. */
  | { is: 'moved'; entry: EntryKind; endsHold?: true }
  /** It decided a pending authorization: the ledger has an entry with that authorization's id. */
  | { is: 'settlement' }
  /** It decided an operation without moving an amount. */
  | { is: 'decided' }
  /** The acquirer decides later. */
  | { is: 'undecided' };

/** Every kind and status in the acquirer's log. */
const meanings: Readonly<Record<string, Meaning>> = {
  'authorization authorized': { is: 'moved', entry: 'authorize' },
  'authorization pending': { is: 'undecided' },
  'authorization declined': { is: 'decided' },
  'authorization refused': { is: 'decided' },
  'settlement authorized': { is: 'settlement' },
  'capture captured': { is: 'moved', entry: 'capture' },
  'capture refused': { is: 'decided' },
  'void voided': { is: 'moved', entry: 'void', endsHold: true },
  'void refused': { is: 'decided' },
  'refund refunded': { is: 'moved', entry: 'refund' },
  'refund refused': { is: 'decided' },
  'expiration expired': { is: 'moved', entry: 'expire', endsHold: true },
  'cancellation cancelled': { is: 'decided' },
};

export interface Comparison {
  readonly differences: LedgerDifference[];
  /** The number of records that are not compared, by kind and status. */
  readonly ignored: Map<string, number>;
}

/** Compares records of the acquirer's log with the stored data. */
export function compareRecords(records: readonly LoggedOperation[], known: LocalRecords): Comparison {
  const all: Comparison = { differences: [], ignored: new Map() };
  for (const record of records) {
    const name = `${record.kind} ${record.status}`;
    const meaning = meanings[name];
    const difference = meaning ? differenceOf(record, meaning, known) : unknownRecord(record, known);
    if (difference) all.differences.push(difference);
    else if (meaning?.is === 'decided' || meaning?.is === 'undecided') {
      all.ignored.set(name, (all.ignored.get(name) ?? 0) + 1);
    }
  }
  return all;
}

export const textOf = ({ kind, amountMinor, currencyCode }: LedgerLine) => `${kind} of ${amountMinor} ${currencyCode}`;

function differenceOf(record: LoggedOperation, meaning: Meaning, known: LocalRecords): LedgerDifference | null {
  const operation = known.operations.get(record.key);
  const pending = operation?.state === 'PENDING' && meaning.is !== 'undecided';
  // The refusal of an operation that needs an operator is recorded. The end of a hold has the key of the authorization
  // or a foreign key, so it is looked up by its charge.
  const knownRefusal = operation?.needsOperator && record.status === 'refused';
  const ours = `${operation?.kind} without an outcome`;
  if (pending && !knownRefusal) return difference('OUTCOME_MISSING', record, known, ours, theirText(record, meaning));
  switch (meaning.is) {
    case 'moved':
      return movedDifference(record, meaning, known);
    case 'settlement':
      return settlementDifference(record, known);
    default: {
      const line = known.lines.get(record.externalId);
      // Once the acquirer has decided a pending authorization, the ledger has it under its own id.
      if (!line || meaning.is === 'undecided') return null;
      return difference('DISAGREEMENT', record, known, textOf(line), theirText(record, meaning));
    }
  }
}

function movedDifference(
  record: LoggedOperation,
  meaning: Meaning & { is: 'moved' },
  known: LocalRecords,
): LedgerDifference | null {
  const theirs = theirText(record, meaning);
  const line = known.lines.get(record.externalId);
  if (line) return textOf(line) === theirs ? null : difference('DISAGREEMENT', record, known, textOf(line), theirs);
  const payment = meaning.endsHold ? known.payments.get(record.chargeId) : undefined;
  if (payment?.state === 'AUTHORIZED') return difference('HOLD_ENDED', record, known, 'a hold', theirs);
  return difference('NOT_IN_LEDGER', record, known, known.operations.get(record.key)?.state ?? '', theirs);
}

function settlementDifference(record: LoggedOperation, known: LocalRecords): LedgerDifference | null {
  const theirs = `authorize of ${record.amountMinor} ${record.currencyCode}`;
  const operation = known.operations.get(record.key);
  const line = operation && known.lines.get(operation.externalId);
  if (line) return textOf(line) === theirs ? null : difference('DISAGREEMENT', record, known, textOf(line), theirs);
  return difference('NOT_IN_LEDGER', record, known, operation?.state ?? '', theirs);
}

const unknownRecord = (record: LoggedOperation, known: LocalRecords): LedgerDifference =>
  difference('RECORD_UNKNOWN', record, known, '', `${record.kind} ${record.status}`);

function theirText({ kind, status, amountMinor, currencyCode }: LoggedOperation, meaning: Meaning): string {
  const name = meaning.is === 'moved' ? meaning.entry : `${kind} ${status}`;
  return `${name} of ${amountMinor} ${currencyCode}`;
}

function difference(
  kind: DifferenceName,
  record: LoggedOperation,
  { operations, payments }: LocalRecords,
  ours: string,
  theirs: string,
): LedgerDifference {
  const operation = operations.get(record.key);
  const paymentId = operation?.paymentId ?? payments.get(record.chargeId)?.paymentId ?? '';
  const { externalId, position } = record;
  return { kind, position, externalId, operationId: operation?.operationId ?? '', paymentId, ours, theirs };
}

/** Entries that an operator decided, which the acquirer does not have. */
const ownKinds: ReadonlySet<EntryKind> = new Set(['release', 'refund_outside']);

/** Compares entries of the ledger with the operations that the acquirer has under their ids. */
export function compareLines(lines: readonly LedgerLine[], atAcquirer: ReadonlySet<string>): Comparison {
  const all: Comparison = { differences: [], ignored: new Map() };
  for (const line of lines) {
    if (ownKinds.has(line.kind)) all.ignored.set(line.kind, (all.ignored.get(line.kind) ?? 0) + 1);
    else if (!atAcquirer.has(line.externalId)) {
      const { position, externalId, operationId, paymentId } = line;
      const difference = { kind: 'NOT_AT_ACQUIRER', position, externalId, operationId, paymentId } as const;
      all.differences.push({ ...difference, ours: textOf(line), theirs: '' });
    }
  }
  return all;
}
