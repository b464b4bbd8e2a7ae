// Mutations of the saga engine: unknown outcomes, leases, retries, cancellation.
import { crashTest, type Mutation, tests } from './mutation.ts';

const exploration = tests('test/verification/saga/orders.explore.test.ts');
const ordersRace = (race: string) => tests('test/verification/races/orders.test.ts', 'every interleaving', race);

export const sagaMutations: readonly Mutation[] = [
  {
    name: 'compensate on timeout',
    breaks: 'an order is undone whose card is charged all the same',
    edits: [
      {
        file: 'services/runtime/saga/core.ts',
        old: '      return unknown(definition, state, branch, input);',
        new: `      return rejected(definition, state, branch, { reason: 'TIMEOUT', detail: input.detail });`,
      },
    ],
    caughtBy: { detector: crashTest, says: /I16 |ended \w+ TIMEOUT/ },
  },
  {
    name: 'compensate unasked',
    breaks: 'a customer who cancels is refunded what was not charged, or not refunded what was',
    edits: [
      {
        file: 'services/runtime/saga/core.ts',
        old: `  return { ...wished, branches: [{ ...branch, phase, attempt: 0, failingSince: null, notBefore: 0 }] };`,
        new: '  return compensateFrom(definition, wished, branch.step, false);',
      },
    ],
    caughtBy: { detector: exploration, says: /outcome is unknown/ },
  },
  {
    name: 'unknown outcome taken for a rejection',
    breaks: 'an order is refused because a service was restarted',
    edits: [
      {
        file: 'services/runtime/saga/outcome.ts',
        old: `  return { kind: 'unknown', epoch, detail: describe(error), ...pauseOf(error) };`,
        new: `  return { kind: 'rejected', epoch, reason: 'TIMEOUT', detail: describe(error) };`,
      },
    ],
    caughtBy: { detector: tests('services/runtime/saga/outcome.test.ts'), says: /unknown/ },
  },
  {
    name: 'new key for each try',
    breaks: 'a step that is tried again acts again',
    edits: [
      {
        file: 'services/runtime/saga/attempt.ts',
        old: '  const { phase: kind, epoch, round } = due;',
        new: '  const { phase: kind, epoch, epoch: round } = due;',
      },
    ],
    caughtBy: {
      detector: tests('services/runtime/saga/engine.test.ts', 'outcomes', 'the result is lost after acting'),
      says: /run authorize/,
    },
  },
  {
    name: 'lease not fenced',
    breaks: 'two workers process one order at the same time',
    edits: [
      {
        file: 'services/runtime/saga/store.ts',
        old: '     where saga_id = ? and lease_token = ? and version = ?`,',
        new: '     where saga_id = ? and lease_token >= ? and version = ?`,',
      },
    ],
    caughtBy: { detector: ordersRace('a worker that was away'), says: /every interleaving is right/ },
  },
  {
    name: 'cancellation without a lock',
    breaks: 'a customer who cancels while the order is confirmed is told that the shop is broken',
    edits: [
      {
        file: 'services/orders/service.ts',
        old: `        const order = await store.find(tx, orderId, 'for update');`,
        new: '        const order = await store.find(tx, orderId);',
      },
    ],
    caughtBy: { detector: ordersRace('cancelling an order against'), says: /internal error/ },
  },
  {
    name: 'response after the commit',
    breaks: 'a request that is sent again has a second effect',
    edits: [
      {
        file: 'services/runtime/idempotency/run-idempotent.ts',
        old: `      await tx.em.flush();
      await insertStoredResponse(tx, key, { code: 0, body: bytes }, policyVersionOf(call), dataSubjectOf(call));
      return made;
    });`,
        new: `      return made;
    });
    await db.write(call, (sql) =>
      insertStoredResponse(sql, key, { code: 0, body: bytes }, policyVersionOf(call), dataSubjectOf(call)),
    );`,
      },
    ],
    caughtBy: { detector: crashTest, says: /orders more than responses|returned .*, then / },
  },
  {
    name: 'cancellation with a time limit',
    breaks: 'a customer who cancelled before an outage is never refunded',
    edits: [
      {
        file: 'services/orders/cancellation.ts',
        old: `      timeLimitMs: 'none',
      mustComplete: true,`,
        new: '      timeLimitMs: 60_000,',
      },
    ],
    caughtBy: {
      detector: tests('test/e2e/outage.test.ts', 'a cancellation that no worker processed for days'),
      says: /"cancellation","status":"FAILED"/,
    },
  },
  {
    name: 'worker ignores the version',
    breaks: 'a worker of an old deployment runs the steps of another definition',
    edits: [
      {
        file: 'services/runtime/saga/lease-store.ts',
        old: `const inPartition =
  'name = ? and definition_version = ? and`,
        new: `const inPartition =
  'name = ? and definition_version <> ? + 1000000 and`,
      },
    ],
    caughtBy: {
      detector: tests('services/runtime/saga/ends.test.ts', 'versions', 'a worker runs the versions that it knows'),
      says: /COMPLETED|lease_holder/,
    },
  },
  {
    name: 'tries are counted',
    breaks: 'after an outage of an hour, every order needs an operator',
    edits: [
      {
        file: 'services/runtime/saga/core.ts',
        old: 'if (limited && elapsedMs >= definition.retry.maxElapsedMs) return',
        new: 'if (limited && elapsedMs >= 0 && attempt >= 20) return',
      },
    ],
    caughtBy: {
      detector: tests('services/runtime/saga/core.test.ts', 'tries end by the time since the first failed one'),
      says: /500 tries within the time/,
    },
  },
  {
    name: 'one pool for all dependencies',
    breaks: 'a service that hangs stops orders that do not need it',
    edits: [
      {
        file: 'services/runtime/saga/slots.ts',
        old: `      const pool = pools.get(name) ?? poolOf(limitOf(name));
      pools.set(name, pool);`,
        new: `      const pool = pools.get('') ?? poolOf(limitOf(name));
      pools.set('', pool);`,
      },
    ],
    caughtBy: {
      detector: tests('services/runtime/saga/slots.test.ts', 'each dependency has a pool of its own'),
      says: /inventory/,
    },
  },
];
