import t from 'tap';
import { DeadlineError } from '../context/call-context.ts';
import { dependencyUnavailable, permissionDenied, RpcError, requestIdReused, rpcError } from '../errors/errors.ts';
import { defineSaga, type SagaInit, stepKey } from './definition.ts';
import { absentIfNotFound, thrown } from './outcome.ts';

t.test('what errors of a step mean', async (t) => {
  const rows: [string, unknown, 'rejected' | 'unknown'][] = [
    ['a rule says no', rpcError('FAILED_PRECONDITION', 'STOCK_INSUFFICIENT', 'not enough'), 'rejected'],
    ['a thing is not there', rpcError('NOT_FOUND', 'SKU_UNKNOWN', 'not there'), 'rejected'],
    ['the request is wrong', rpcError('INVALID_ARGUMENT', 'FIELDS_INVALID', 'wrong'), 'rejected'],
    ['the key was used for another request, which may have acted', requestIdReused('request_id'), 'unknown'],
    ['the service is away', dependencyUnavailable('payments', null), 'unknown'],
    ['a policy is missing, which an operator mends', permissionDenied('payments.capture'), 'unknown'],
    ['a certificate is wrong', new RpcError('UNAUTHENTICATED', '', ''), 'unknown'],
    ['a version is not deployed yet', new RpcError('UNIMPLEMENTED', '', ''), 'unknown'],
    ['a fault over there', new RpcError('INTERNAL', '', ''), 'unknown'],
    ['too busy', new RpcError('RESOURCE_EXHAUSTED', '', ''), 'unknown'],
    ['the deadline', new DeadlineError('the deadline passed'), 'unknown'],
    ['a fault of our own', new TypeError('x is not a function'), 'unknown'],
    ['not even an error', 'no', 'unknown'],
  ];
  for (const [name, error, kind] of rows) {
    t.equal(thrown('run', error, 7).kind, kind, name);
    t.equal(thrown('query', error, 7).kind, 'unknown', `${name}: a query that fails says nothing`);
    t.match(thrown('compensate', error, 7), { kind: 'uncompensated', permanent: kind === 'rejected', epoch: 7 }, name);
  }
  t.notMatch(JSON.stringify(thrown('run', new Error('password=x'), 1)), 'password', 'no texts of unknown origin');
});

t.test('an error says how long to pause', async (t) => {
  const busy = new RpcError('ABORTED', 'OPERATION_NEEDS_OPERATOR', 'an operator decides', {
    domain: 'payments',
    details: { retryDelayMs: 60_000 },
  });
  for (const action of ['run', 'query', 'compensate'] as const) {
    t.match(thrown(action, busy, 7), { retryAfterMs: 60_000 }, action);
    t.notOk('retryAfterMs' in thrown(action, new RpcError('UNAVAILABLE', '', ''), 7), `${action}: says nothing`);
  }
});

t.test('only a query says that a thing is absent', async (t) => {
  t.strictSame(absentIfNotFound(rpcError('NOT_FOUND', 'PAYMENT_NOT_FOUND', '')), { kind: 'absent' });
  t.throws(() => absentIfNotFound(new RpcError('UNAVAILABLE', '', '')));
});

t.test('keys', async (t) => {
  const saga = '0193f3c0-0000-7000-8000-000000000000';
  const keys = [
    stepKey(saga, 'a', 'run', 0),
    stepKey(saga, 'a', 'run', 1),
    stepKey(saga, 'a', 'compensate', 0),
    stepKey(saga, 'b', 'run', 0),
  ];
  t.equal(new Set(keys).size, keys.length);
  t.equal(stepKey(saga, 'a', 'run', 0), keys[0]);
});

t.test('definitions that do not fit together', async (t) => {
  const run = async () => ({ kind: 'done' }) as const;
  const step = { name: 'a', run };
  const x = { name: 'x', version: 1, timeLimitMs: 1_000 };
  const pivot = { ...step, pivot: true };
  const group = 'refunds';
  const rows: [string, SagaInit<{ card: string }>, RegExp][] = [
    ['no steps', { ...x, steps: [] }, /steps must be 1 to 50/],
    ['one name twice', { ...x, steps: [step, step] }, /names of their own/],
    ['two pivots', { ...x, steps: [pivot, { ...pivot, name: 'b' }] }, /one pivot/],
    [
      'a tombstone without a compensation',
      { ...x, steps: [{ ...step, compensateAbsent: true }] },
      /needs a compensate/,
    ],
    ['a bad name', { ...x, name: 'Check out', steps: [step] }, /name must be/],
    ['no version', { ...x, version: 0, steps: [step] }, /version must be a whole number from 1/],
    ['half a version', { ...x, version: 1.5, steps: [step] }, /version must be a whole number from 1/],
    ['no time', { ...x, timeLimitMs: 0, steps: [step] }, /timeLimitMs must be a whole number above 0, or 'none'/],
    ['no tries', { ...x, steps: [step], retry: { maxElapsedMs: 0 } }, /retry.maxElapsedMs must be/],
    ['must complete in time', { ...x, steps: [step], mustComplete: true }, /mustComplete needs timeLimitMs: 'none'/],
    [
      'must complete and be undone',
      { ...x, steps: [{ ...step, async compensate() {} }], mustComplete: true, timeLimitMs: 'none' },
      /step a: a saga that must complete compensates nothing/,
    ],
    [
      'shown and secret',
      { ...x, steps: [step], nonSensitive: ['card'], secrets: ['card'] },
      /card is non-sensitive and secret/,
    ],
    ['a bad dependency', { ...x, steps: [{ ...step, dependency: 'Acquirer 1' }] }, /dependency must be a name/],
    [
      'a group before the pivot',
      {
        ...x,
        steps: [
          { ...step, group },
          { ...pivot, name: 'b' },
        ],
      },
      /after the pivot/,
    ],
    ['a group at the pivot', { ...x, steps: [{ ...pivot, group }] }, /after the pivot/],
    [
      'a group in two parts',
      { ...x, steps: [pivot, { name: 'b', run, group }, { name: 'c', run }, { name: 'd', run, group }] },
      /step d: the steps of group refunds must follow one another/,
    ],
  ];
  for (const [name, init, message] of rows) t.throws(() => defineSaga(init), { message }, name);
  t.doesNotThrow(() => defineSaga({ ...x, steps: [pivot, { name: 'b', run, group }, { name: 'c', run, group }] }));
});
