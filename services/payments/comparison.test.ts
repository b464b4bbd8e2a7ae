import type { CallContext } from '@armature/runtime';
import t from 'tap';
import type { Acquirer } from './acquirer.ts';
import type { LoggedOperation } from './acquirer-page.ts';
import { compareLines, compareRecords, type LocalRecords } from './comparison.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import type { EntryKind, Operation, OperationState, Payment } from './payment.ts';
import { compareWithAcquirer } from './reconciliation.ts';
import type { LedgerLine } from './reconciliation-store.ts';

const record = (kind: string, status: string, over: Partial<LoggedOperation> = {}): LoggedOperation => ({
  position: '1',
  externalId: 'op_1',
  key: 'key',
  chargeId: 'ch',
  kind,
  status,
  amountMinor: 100,
  currencyCode: 'EUR',
  createTime: new Date(0),
  body: null,
  ...over,
});
const operation = (state: OperationState, over: Partial<Operation> = {}): Operation => ({
  operationId: 'key',
  paymentId: 'p',
  kind: 'capture',
  state,
  amountMinor: 100n,
  rest: false,
  externalId: state === 'DONE' ? 'op_1' : '',
  failureCode: '',
  key: 'key',
  keyAgeMs: 0,
  needsOperator: false,
  ...over,
});
const line = (kind: EntryKind, over: Partial<LedgerLine> = {}): LedgerLine => ({
  position: '7',
  externalId: 'op_1',
  paymentId: 'p',
  kind,
  amountMinor: 100n,
  currencyCode: 'EUR',
  operationId: 'key',
  ...over,
});
const known = (own: Operation | null, entry: LedgerLine | null, state?: Payment['state']): LocalRecords => ({
  operations: new Map(own ? [['key', own]] : []),
  lines: new Map(entry ? [[entry.externalId, entry]] : []),
  payments: new Map(state ? [['ch', { paymentId: 'p', state } as Payment]] : []),
});

t.test('each record of the acquirer is compared or counted', async (t) => {
  const rows: [string, LoggedOperation, LocalRecords, string][] = [
    ['a capture that both have', record('capture', 'captured'), known(operation('DONE'), line('capture')), 'equal'],
    [
      'a capture without an outcome',
      record('capture', 'captured'),
      known(operation('PENDING'), null),
      'OUTCOME_MISSING',
    ],
    ['a capture that is none of ours', record('capture', 'captured'), known(null, null), 'NOT_IN_LEDGER'],
    [
      'a capture of another amount',
      record('capture', 'captured', { amountMinor: 99 }),
      known(operation('DONE'), line('capture')),
      'DISAGREEMENT',
    ],
    [
      'a refusal without an outcome',
      record('capture', 'refused'),
      known(operation('PENDING'), null),
      'OUTCOME_MISSING',
    ],
    ['a refusal that both have', record('capture', 'refused'), known(operation('REFUSED'), null), 'capture refused'],
    [
      'a refused void that needs an operator',
      record('void', 'refused'),
      known(operation('PENDING', { kind: 'void', needsOperator: true }), null),
      'void refused',
    ],
    [
      'a refusal that the ledger has',
      record('refund', 'refused'),
      known(operation('DONE'), line('refund')),
      'DISAGREEMENT',
    ],
    [
      'a declined card without an outcome',
      record('authorization', 'declined'),
      known(operation('PENDING', { kind: 'authorize' }), null),
      'OUTCOME_MISSING',
    ],
    [
      'a cancellation without an outcome',
      record('cancellation', 'cancelled'),
      known(operation('PENDING', { kind: 'authorize' }), null),
      'OUTCOME_MISSING',
    ],
    [
      'a cancellation of another party',
      record('cancellation', 'cancelled'),
      known(null, null),
      'cancellation cancelled',
    ],
    [
      'an authorization that is not decided yet',
      record('authorization', 'pending'),
      known(operation('PENDING', { kind: 'authorize' }), null),
      'authorization pending',
    ],
    [
      'an authorization that was decided later',
      record('authorization', 'pending'),
      known(operation('DONE', { kind: 'authorize' }), line('authorize')),
      'authorization pending',
    ],
    [
      'a settlement without an outcome',
      record('settlement', 'authorized', { externalId: 'op_2' }),
      known(operation('PENDING', { kind: 'authorize' }), null),
      'OUTCOME_MISSING',
    ],
    [
      'a settlement that the ledger has under the id of the authorization',
      record('settlement', 'authorized', { externalId: 'op_2' }),
      known(operation('DONE', { kind: 'authorize' }), line('authorize')),
      'equal',
    ],
    [
      'a settlement of another amount',
      record('settlement', 'authorized', { externalId: 'op_2', amountMinor: 1 }),
      known(operation('DONE', { kind: 'authorize' }), line('authorize')),
      'DISAGREEMENT',
    ],
    ['a settlement that is none of ours', record('settlement', 'authorized'), known(null, null), 'NOT_IN_LEDGER'],
    [
      'a hold that has expired',
      record('expiration', 'expired'),
      known(operation('DONE', { kind: 'authorize', externalId: 'op_0' }), null, 'AUTHORIZED'),
      'HOLD_ENDED',
    ],
    [
      'a hold that has expired while its authorization has no outcome',
      record('expiration', 'expired'),
      known(operation('PENDING', { kind: 'authorize' }), null),
      'OUTCOME_MISSING',
    ],
    [
      'an expired hold that both have',
      record('expiration', 'expired'),
      known(operation('DONE', { kind: 'authorize', externalId: 'op_0' }), line('expire'), 'HOLD_EXPIRED'),
      'equal',
    ],
    ['a hold that another request voided', record('void', 'voided'), known(null, null, 'AUTHORIZED'), 'HOLD_ENDED'],
    ['a void of a charge that is none of ours', record('void', 'voided'), known(null, null), 'NOT_IN_LEDGER'],
    ['a record of an unknown kind', record('chargeback', 'opened'), known(null, null), 'RECORD_UNKNOWN'],
    ['a known kind with an unknown status', record('capture', 'reversed'), known(null, null), 'RECORD_UNKNOWN'],
  ];
  for (const [name, one, here, expected] of rows) {
    const { differences, ignored } = compareRecords([one], here);
    t.equal(differences[0]?.kind ?? [...ignored.keys()][0] ?? 'equal', expected, name);
    t.ok(differences.length + ignored.size <= 1, `${name}: once`);
  }
});

t.test('each entry of the ledger is compared or counted', async (t) => {
  t.strictSame(compareLines([line('capture')], new Set(['op_1'])).differences, []);
  t.match(compareLines([line('capture')], new Set()).differences, [{ kind: 'NOT_AT_ACQUIRER', position: '7' }]);
  for (const kind of ['refund_outside', 'release'] as const) {
    const { differences, ignored } = compareLines([line(kind, { externalId: 'resolution:1' })], new Set());
    t.strictSame([differences, [...ignored]], [[], [[kind, 1]]], "an operator's finding");
  }
});

t.test('a page of the ledger is one request to the acquirer', async (t) => {
  const lines = Array.from({ length: 100 }, (_, n) =>
    line('capture', { externalId: `op_${String(n).padStart(32, '0')}` }),
  );
  const asked: number[] = [];
  const acquirer = {
    async lookUp(_call: CallContext, ids: readonly string[]) {
      asked.push(ids.length);
      return ids.slice(1).map((externalId) => record('capture', 'captured', { externalId }));
    },
  } as unknown as Acquirer;
  const parts = { acquirer } as OperationDependencies;
  const { differences } = await compareWithAcquirer(parts, {} as CallContext, [...lines, line('release')]);
  t.strictSame(asked, [100]);
  t.match(differences, [{ kind: 'NOT_AT_ACQUIRER', externalId: lines[0]!.externalId }]);
});
