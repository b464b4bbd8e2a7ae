import t from 'tap';
import {
  completeOperation,
  endHold,
  movedBy,
  type Operation,
  type OperationKind,
  type Outcome,
  type Payment,
  planExclusive,
  planRecorded,
  planRefund,
} from './payment.ts';

const now = new Date(0);
const start: Payment = {
  paymentId: 'p',
  orderId: 'o',
  customerId: 'ada',
  state: 'PENDING',
  currencyCode: 'EUR',
  amountMinor: 100n,
  capturedMinor: 0n,
  refundedMinor: 0n,
  refundingMinor: 0n,
  declineCode: '',
  chargeId: '',
  authorizeOperationId: 'op-authorize',
  exclusiveOperationId: null,
  events: 0n,
  createdAt: now,
  updatedAt: now,
  version: 1n,
};
const payments: Record<Payment['state'], Payment> = {
  PENDING: start,
  AUTHORIZED: { ...start, state: 'AUTHORIZED', chargeId: 'ch', events: 1n },
  DECLINED: { ...start, state: 'DECLINED', declineCode: 'no', events: 1n },
  CAPTURED: { ...start, state: 'CAPTURED', chargeId: 'ch', capturedMinor: 100n, events: 2n },
  VOIDED: { ...start, state: 'VOIDED', events: 1n },
  REFUNDED: { ...start, state: 'REFUNDED', chargeId: 'ch', capturedMinor: 100n, refundedMinor: 100n, events: 3n },
  HOLD_EXPIRED: { ...start, state: 'HOLD_EXPIRED', chargeId: 'ch', events: 2n },
  VOIDED_EXTERNALLY: { ...start, state: 'VOIDED_EXTERNALLY', chargeId: 'ch', events: 2n },
};
const operation = (kind: OperationKind, amountMinor = 100n): Operation => ({
  operationId: `op-${kind}`,
  paymentId: 'p',
  kind,
  state: 'PENDING',
  amountMinor,
  rest: false,
  externalId: '',
  failureCode: '',
  key: `op-${kind}`,
  keyAgeMs: 0,
  needsOperator: false,
});
const states = [
  'PENDING',
  'AUTHORIZED',
  'DECLINED',
  'CAPTURED',
  'VOIDED',
  'REFUNDED',
  'HOLD_EXPIRED',
  'VOIDED_EXTERNALLY',
] as const;

t.test('the plan of each request in each state', async (t) => {
  const table = {
    capture: ['state', 'act', 'state', 'state', 'state', 'state', 'state', 'state'],
    void: ['act', 'act', 'same', 'state', 'same', 'same', 'same', 'same'],
    refund: ['state', 'state', 'state', 'act', 'state', 'exceeds', 'state', 'state'],
  } as const;
  for (const [kind, row] of Object.entries(table)) {
    for (const [index, state] of states.entries()) {
      const payment = payments[state];
      const plan =
        kind === 'refund'
          ? planRefund(payment, { currencyCode: 'EUR', amountMinor: 1n })
          : planExclusive(kind as 'capture' | 'void', payment, 'op');
      t.equal(plan.kind === 'refuse' ? plan.because : plan.kind, row[index], `${kind} of one that is ${state}`);
    }
  }
});

t.test('one capture or void at a time', async (t) => {
  for (const kind of ['capture', 'void'] as const) {
    const plan = planExclusive(kind, payments.AUTHORIZED, 'op-1');
    if (plan.kind !== 'act') return t.fail('the first acts');
    t.match(planExclusive('capture', plan.payment, 'op-2'), { because: 'busy' });
    t.match(planExclusive('void', plan.payment, 'op-2'), { because: 'busy' });
  }
});

t.test('refunds', async (t) => {
  const captured = payments.CAPTURED;
  const rows = [
    { name: 'all of it', payment: captured, amount: 100n, act: true },
    { name: 'more than all', payment: captured, amount: 101n, because: 'exceeds' },
    { name: 'what is left', payment: { ...captured, refundedMinor: 60n }, amount: 40n, act: true },
    { name: 'more than is left', payment: { ...captured, refundedMinor: 60n }, amount: 41n, because: 'exceeds' },
    {
      name: 'what another has reserved',
      payment: { ...captured, refundingMinor: 60n },
      amount: 41n,
      because: 'exceeds',
    },
    { name: 'in another currency', payment: captured, amount: 1n, currencyCode: 'USD', because: 'currency' },
  ];
  for (const { name, payment, amount, act, because, currencyCode = 'EUR' } of rows) {
    const plan = planRefund(payment, { currencyCode, amountMinor: amount });
    if (act) t.match(plan, { payment: { refundingMinor: payment.refundingMinor + amount } }, name);
    else t.match(plan, { because }, name);
  }
});

t.test('recording a foreign operation of the acquirer', async (t) => {
  const { AUTHORIZED: held, CAPTURED: captured } = payments;
  const waits = (kind: OperationKind) => ({ ...operation(kind), needsOperator: true });
  const rows = [
    { name: 'a refund of a part', payment: captured, kind: 'refund', amount: 40n, plan: 'act' },
    { name: 'a refund of more than is left', payment: captured, kind: 'refund', amount: 101n, plan: 'exceeds' },
    {
      name: 'a refund of what a pending one has reserved',
      ...{ payment: { ...captured, refundingMinor: 100n }, kind: 'refund', amount: 40n, plan: 'busy' },
    },
    { name: 'a refund before its capture', payment: held, kind: 'refund', amount: 40n, plan: 'state' },
    { name: 'a capture while a void waits', payment: held, by: waits('void'), amount: 100n, plan: 'act' },
    {
      name: 'a capture of a part while a capture waits',
      payment: held,
      by: waits('capture'),
      amount: 40n,
      plan: 'act',
    },
    { name: 'the outcome of the capture that waits', payment: held, by: waits('capture'), amount: 100n, plan: 'state' },
    { name: 'a capture while a void is sent', payment: held, by: operation('void'), amount: 100n, plan: 'state' },
    { name: 'a capture that nothing waits for', payment: held, amount: 100n, plan: 'state' },
  ] as const;
  for (const { name, payment, amount, plan: expected, ...more } of rows) {
    const { kind = 'capture', by = null } = more as { kind?: 'capture' | 'refund'; by?: Operation | null };
    const plan = planRecorded(payment, kind, { currencyCode: 'EUR', amountMinor: amount }, by);
    t.equal(plan.kind === 'refuse' ? plan.because : plan.kind, expected, name);
    const dollars = planRecorded(payment, kind, { currencyCode: 'USD', amountMinor: amount }, by);
    t.equal(dollars.kind, 'refuse', `${name}, in another currency`);
  }
});

t.test('a refund of the rest', async (t) => {
  const captured = payments.CAPTURED;
  const rows = [
    {
      name: 'all of it',
      payment: captured,
      plan: { kind: 'act', amountMinor: 100n, payment: { refundingMinor: 100n } },
    },
    { name: 'what is left', payment: { ...captured, refundedMinor: 60n }, plan: { kind: 'act', amountMinor: 40n } },
    { name: 'nothing is left', payment: payments.REFUNDED, plan: { kind: 'same' } },
    {
      name: 'not known while a refund is pending',
      payment: { ...captured, refundedMinor: 10n, refundingMinor: 5n },
      plan: { kind: 'refuse', because: 'busy' },
    },
    {
      name: 'not known while a refund of everything is pending',
      payment: { ...captured, refundingMinor: 100n },
      plan: { kind: 'refuse', because: 'busy' },
    },
    { name: 'a hold', payment: payments.AUTHORIZED, plan: { kind: 'refuse', because: 'state' } },
  ];
  for (const { name, payment, plan } of rows) t.match(planRefund(payment, 'rest'), plan, name);
});

t.test('the amount that an operation moved', async (t) => {
  const ended = (kind: OperationKind, over: Partial<Operation>): Operation => ({ ...operation(kind), ...over });
  const rows: [string, Payment, Operation, bigint][] = [
    ['a hold', payments.AUTHORIZED, ended('authorize', { state: 'DONE', externalId: 'x' }), 100n],
    ['a declined card', payments.DECLINED, ended('authorize', { state: 'DONE', externalId: 'x' }), 0n],
    ['part of a refund', payments.CAPTURED, ended('refund', { state: 'DONE', externalId: 'x', amountMinor: 30n }), 30n],
    ['a void that had nothing to do', payments.DECLINED, ended('void', { state: 'DONE' }), 0n],
    ['a pending refund', payments.CAPTURED, operation('refund'), 0n],
    ['a refused refund', payments.CAPTURED, ended('refund', { state: 'REFUSED' }), 0n],
  ];
  for (const [name, payment, one, expected] of rows) t.equal(movedBy(payment, one), expected, name);
});

const acted: Outcome = { kind: 'acted', externalId: 'x', chargeId: 'ch' };
const refused: Outcome = { kind: 'refused', code: 'no' };
const cancelled: Outcome = { kind: 'cancelled' };
const expired: Outcome = { kind: 'ended', end: { how: 'expired', externalId: 'e' }, code: 'charge_expired' };
const voidedOutside: Outcome = {
  kind: 'ended',
  end: { how: 'voided_externally', externalId: 'e' },
  code: 'charge_voided',
};

t.test('the effects of outcomes', async (t) => {
  const refunding = { ...payments.CAPTURED, refundingMinor: 100n };
  const rows = [
    ['authorize', start, acted, { state: 'AUTHORIZED', op: 'DONE', moved: 'authorize', event: 'authorized' }],
    [
      'authorize',
      start,
      { ...acted, kind: 'declined', code: 'no' },
      { state: 'DECLINED', op: 'DONE', event: 'declined' },
    ],
    ['authorize', start, refused, { state: 'DECLINED', op: 'DONE', event: 'declined' }],
    ['authorize', start, cancelled, { state: 'VOIDED', op: 'CANCELLED', event: 'voided' }],
    ['capture', payments.AUTHORIZED, acted, { state: 'CAPTURED', op: 'DONE', moved: 'capture', event: 'captured' }],
    ['capture', payments.AUTHORIZED, refused, { state: 'AUTHORIZED', op: 'REFUSED' }],
    ['void', payments.AUTHORIZED, acted, { state: 'VOIDED', op: 'DONE', moved: 'void', event: 'voided' }],
    [
      'capture',
      payments.AUTHORIZED,
      expired,
      { state: 'HOLD_EXPIRED', op: 'REFUSED', moved: 'expire', event: 'voided' },
    ],
    ['capture', payments.HOLD_EXPIRED, expired, { state: 'HOLD_EXPIRED', op: 'REFUSED' }],
    [
      'void',
      payments.AUTHORIZED,
      voidedOutside,
      { state: 'VOIDED_EXTERNALLY', op: 'DONE', moved: 'void', event: 'voided' },
    ],
    ['void', payments.DECLINED, { kind: 'unneeded' }, { state: 'DECLINED', op: 'DONE' }],
    ['void', payments.VOIDED, { kind: 'unneeded' }, { state: 'VOIDED', op: 'DONE' }],
    ['refund', refunding, acted, { state: 'REFUNDED', op: 'DONE', moved: 'refund', event: 'refunded' }],
    ['refund', refunding, refused, { state: 'CAPTURED', op: 'REFUSED' }],
  ] as [OperationKind, Payment, Outcome, { state: string; op: string; moved?: string; event?: string }][];
  for (const [kind, payment, outcome, expected] of rows) {
    const busy = kind === 'capture' || kind === 'void' ? { ...payment, exclusiveOperationId: `op-${kind}` } : payment;
    const after = completeOperation(busy, operation(kind), outcome);
    const { state, version, events, exclusiveOperationId, refundingMinor } = after.payment;
    const name = `${kind} of one that is ${payment.state}: ${outcome.kind}`;
    const { moved = null, event = null } = expected;
    t.match(
      { state, op: after.operation.state, moved: after.moved?.kind ?? null, event: after.event },
      { ...expected, moved, event },
      name,
    );
    t.equal(events - payment.events, event ? 1n : 0n, `${name}: counts its event`);
    t.equal(version - payment.version, event ? 1n : 0n, `${name}: has a new version exactly when callers can see it`);
    t.equal(exclusiveOperationId, null, `${name}: nothing is under way`);
    t.equal(refundingMinor, 0n, `${name}: nothing is reserved`);
  }
});

t.test('a void that the acquirer refuses stays open for an operator', async (t) => {
  const busy = { ...payments.AUTHORIZED, exclusiveOperationId: 'op-void' };
  const after = completeOperation(busy, operation('void'), { kind: 'refused', code: 'charge_already_captured' });
  t.match(after.operation, { state: 'PENDING', needsOperator: true, failureCode: 'charge_already_captured' });
  t.match(after.payment, { state: 'AUTHORIZED', exclusiveOperationId: 'op-void', version: busy.version });
});

t.test('a hold ends once, and only where there is one', async (t) => {
  const ended = endHold(payments.AUTHORIZED, { how: 'expired', externalId: 'e' });
  t.match(ended, {
    payment: { state: 'HOLD_EXPIRED', events: 2n, version: 2n },
    moved: { kind: 'expire', amountMinor: 100n, externalId: 'e' },
  });
  for (const state of states.filter((one) => one !== 'AUTHORIZED')) {
    const same = endHold(payments[state], { how: 'voided_externally', externalId: 'e' });
    t.strictSame([same.payment, same.moved, same.event], [payments[state], null, null], state);
  }
});

t.test('partial refunds leave it captured until the last', async (t) => {
  const first = completeOperation(
    { ...payments.CAPTURED, refundingMinor: 100n },
    operation('refund', 40n),
    acted,
  ).payment;
  t.match(first, { state: 'CAPTURED', refundedMinor: 40n, refundingMinor: 60n });
  t.match(completeOperation(first, operation('refund', 60n), acted).payment, {
    state: 'REFUNDED',
    refundedMinor: 100n,
  });
});

t.test('impossible outcomes throw', async (t) => {
  t.throws(
    () => completeOperation(payments.AUTHORIZED, operation('authorize'), acted),
    /cannot end on a payment that is AUTHORIZED/,
  );
  t.throws(
    () => completeOperation(payments.VOIDED, operation('capture'), acted),
    /cannot end on a payment that is VOIDED/,
  );
  t.throws(
    () => completeOperation(payments.CAPTURED, operation('void'), acted),
    /cannot end on a payment that is CAPTURED/,
  );
  for (const state of ['PENDING', 'AUTHORIZED', 'CAPTURED'] as const)
    t.throws(
      () => completeOperation(payments[state], operation('void'), { kind: 'unneeded' }),
      /cannot be unneeded/,
      state,
    );
  t.throws(() => completeOperation(start, { ...operation('authorize'), state: 'DONE' }, acted), /is DONE already/);
});
