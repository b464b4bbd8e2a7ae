// Mutations of stock and payments: row locks, idempotency keys, ledger entries.
import { crashTest, type Mutation, tests } from './mutation.ts';

const stock = (race: string) => tests('test/verification/races/stock.test.ts', 'every interleaving', race);
const wrongInterleaving = /every interleaving is right/;
const stockStore = 'services/inventory/stock-store.ts';
const reservationStore = 'services/inventory/reservation-store.ts';

export const shopMutations: readonly Mutation[] = [
  {
    name: 'lock order swapped',
    breaks: 'orders of the same two things end each other',
    edits: [
      {
        file: 'services/inventory/reservation.ts',
        old: '  return [...sums].map(([sku, quantity]) => ({ sku, quantity })).sort((a, b) => (a.sku < b.sku ? -1 : 1));',
        new: '  return [...sums].map(([sku, quantity]) => ({ sku, quantity }));',
      },
      {
        file: reservationStore,
        old: `  const levels = await readLevels(tx, skusOf(lines), 'for update');`,
        new: `  const levels: Awaited<ReturnType<typeof readLevels>> = [];
  for (const line of lines) levels.push(...(await readLevels(tx, [line.sku], 'for update')));`,
      },
    ],
    caughtBy: { detector: stock('two orders of the same two SKUs'), says: /no transaction deadlocks/ },
  },
  {
    name: 'reserve without a lock',
    breaks: 'the last unit is promised to two customers',
    edits: [
      {
        file: reservationStore,
        old: `const levels = await readLevels(tx, skusOf(lines), 'for update');`,
        new: `const levels = await readLevels(tx, skusOf(lines), '');`,
      },
    ],
    // Then only a constraint of the table prevents double reservations, and its violation is an internal error.
    caughtBy: { detector: stock('the last unit, two want it'), says: /internal error/ },
  },
  {
    name: 'correction without a lock',
    breaks: 'one of two corrections of a shelf is lost',
    edits: [
      {
        file: stockStore,
        old: `(await readLevels(tx, [sku], 'for update'))`,
        new: `(await readLevels(tx, [sku], ''))`,
      },
    ],
    caughtBy: { detector: stock('two corrections of one shelf'), says: wrongInterleaving },
  },
  {
    name: 'expiry does not look again',
    breaks: 'units that one customer has paid for are sold to another',
    edits: [
      {
        file: reservationStore,
        old: ' for update skip locked`',
        new: '`',
      },
      {
        file: reservationStore,
        old: `if (reservation) await apply(tx, watching, reservation, 'expire');`,
        new: `if (reservation) await apply(tx, watching, { ...reservation, state: 'HELD' }, 'expire');`,
      },
    ],
    caughtBy: { detector: stock('expiry against commit'), says: wrongInterleaving },
  },
  {
    name: 'release without a tombstone',
    breaks: 'a late reservation keeps units for an order that has ended',
    edits: [
      {
        file: reservationStore,
        old: `      if (!(await insertReservation(tx, reservationId, orderId, 'RELEASED', reservationTtlMs))) {`,
        new: `      if (reservationTtlMs < 0) {`,
      },
    ],
    caughtBy: {
      detector: tests('services/inventory/service.test.ts', 'releasing', 'overtakes the reservation it undoes'),
      says: /RESERVATION_NOT_FOUND|no reservation/i,
    },
  },
  {
    name: 'new operation for each request',
    breaks: 'a customer is refunded twice',
    edits: [
      {
        file: 'services/payments/operations.ts',
        old: '{method}\\n',
        new: '{call.id}\\n',
      },
    ],
    caughtBy: {
      detector: tests(
        'test/verification/races/payments.test.ts',
        'every interleaving',
        'one refund sent twice at once',
      ),
      says: wrongInterleaving,
    },
  },
  {
    name: 'new key at the acquirer',
    breaks: 'a card is charged twice when a response is lost',
    edits: [
      {
        file: 'services/payments/acquirer.ts',
        old: 'kind, kind, { ...request, key, timeoutMs: firstTimeoutMs });',
        new: 'kind, kind, { ...request, key: [key, call.id].join(), timeoutMs: firstTimeoutMs });',
      },
    ],
    caughtBy: { detector: crashTest, says: /I9 / },
  },
  {
    name: 'one-sided entry',
    breaks: 'the books do not balance by what was rounded away',
    edits: [
      {
        file: 'services/payments/ledger.ts',
        old: '{ account: credit, currencyCode, amountMinor: -minor, pending },',
        new: '{ account: credit, currencyCode, amountMinor: -(minor / 1_000n) * 1_000n, pending },',
      },
      {
        file: 'services/payments/ledger.ts',
        old: `  assertBalanced(postings);
  return postings;`,
        new: '  return postings;',
      },
    ],
    caughtBy: { detector: crashTest, says: /I1 / },
  },
  {
    name: 'pending operations are not completed',
    breaks: 'money that was moved before a process was killed is never booked',
    edits: [
      {
        file: 'services/payments/pending-operations-job.ts',
        old: '            await resolve(dependencies, own, pending, abandonMs);',
        new: '            own.log.debug({ abandonMs }, pending.operation.operationId);',
      },
    ],
    caughtBy: {
      detector: tests(
        'services/payments/recovery.test.ts',
        'the periodic job completes what kill -9 interrupted',
        'capture at payments.after-acquirer',
      ),
      says: /still pending/,
    },
  },
  {
    name: 'settled twice',
    breaks: 'a webhook that arrives with the response books a payment again',
    edits: [
      {
        file: 'services/payments/store.ts',
        old: `    !outcome || operation.state !== 'PENDING' || operation.key !== intent.key
      ? null`,
        new: `    !outcome
      ? null`,
      },
    ],
    caughtBy: {
      detector: tests(
        'test/verification/races/payments.test.ts',
        'every interleaving',
        'a webhook against the request that',
      ),
      says: /response to a webhook was 500/,
    },
  },
  {
    name: 'webhook believed',
    breaks: 'an attacker who can send a webhook can pay without money',
    edits: [
      {
        file: 'services/payments/webhook-receiver.ts',
        old: '  const outcome = await unlessUnavailable(outcomeOf(store, acquirer, call, operation));',
        new: `  const said = { kind: 'acted', externalId: event.eventId, chargeId: event.eventId } as const;
  const outcome = event.eventId ? said : await unlessUnavailable(outcomeOf(store, acquirer, call, operation));`,
      },
    ],
    caughtBy: {
      detector: tests(
        'services/payments/webhooks.test.ts',
        'the outcome comes from the acquirer, not from the webhook',
      ),
      says: /the acquirer is down/,
    },
  },
  {
    name: 'runtime folder imports a later one',
    breaks: 'the database module knows of messages again, and neither can be read or changed alone',
    edits: [
      {
        file: 'services/runtime/db/tx.ts',
        old: "import type { Attachments } from '../context/keys.ts';",
        new: "import type { Attachments } from '../context/keys.ts';\n\nexport type { OutboxEvent } from '../messaging/outbox.ts';",
      },
    ],
    caughtBy: {
      detector: tests('test/tidy.test.ts', 'the folders of the runtime depend in one direction'),
      says: /no import against the order of the folders/,
    },
  },
];

/** Changes without an effect. A test that fails for them would fail for any change. */
export const equivalentChanges: readonly Mutation[] = [
  {
    name: 'no effect: other words in a log',
    breaks: 'nothing',
    edits: [
      {
        file: 'services/runtime/messaging/relay.ts',
        old: `'relay pass failed; it is tried again'`,
        new: `'relay pass came to nothing; it is tried again'`,
      },
    ],
    caughtBy: {
      detector: tests(
        'services/runtime/messaging/relay.test.ts',
        'what the broker has not confirmed stays pending, and is published again',
      ),
      says: /./,
    },
  },
  {
    name: 'no effect: another name of a local',
    breaks: 'nothing',
    edits: [
      {
        file: stockStore,
        old: `      const onHand = level.onHand + delta;
      if (onHand < level.reserved) throw stockReserved(sku, level.reserved);`,
        new: `      const units = level.onHand + delta;
      const onHand = units;
      if (units < level.reserved) throw stockReserved(sku, level.reserved);`,
      },
    ],
    caughtBy: { detector: stock('two corrections of one shelf'), says: /./ },
  },
];
