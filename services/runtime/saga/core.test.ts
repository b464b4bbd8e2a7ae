import t from 'tap';
import { advance, begin, type CoreDefinition, type CoreStep, commandOf, type Input, type State } from './core.ts';

const step = (name: string, more: Partial<CoreStep> = {}): CoreStep => ({
  name,
  local: false,
  pivot: false,
  queryable: true,
  compensable: true,
  compensateAbsent: false,
  ...more,
});

const checkout: CoreDefinition = {
  name: 'checkout',
  ...{ version: 1, mustComplete: false, compensation: 'in-order' },
  retry: { initialBackoffMs: 100, maxBackoffMs: 1_000, maxElapsedMs: 3_000 },
  steps: [
    step('reserve', { compensateAbsent: true }),
    step('authorize'),
    step('confirm', { local: true, pivot: true, queryable: false, compensable: false }),
    step('capture', { queryable: false, compensable: false }),
  ],
};

type Said = Input extends infer I ? (I extends { epoch: number } ? Omit<I, 'epoch'> : I) : never;

const done: Said = { kind: 'done' };
const absent: Said = { kind: 'absent' };
const unknown: Said = { kind: 'unknown', detail: 'UNAVAILABLE' };
const no: Said = { kind: 'rejected', reason: 'NO', detail: 'no' };
const undone: Said = { kind: 'compensated' };
const fails: Said = { kind: 'uncompensated', permanent: false, reason: '', detail: 'UNAVAILABLE' };
const refuses: Said = { kind: 'uncompensated', permanent: true, reason: 'CAPTURED', detail: '' };
const cancel: Said = { kind: 'abandon', cause: 'cancelled', reason: 'CUSTOMER', detail: '' };
const expire: Said = { kind: 'abandon', cause: 'expired', reason: 'TIME_LIMIT', detail: '' };
const force: Said = { kind: 'abandon', cause: 'operator', reason: 'OPERATOR', detail: '' };
const resume: Said = { kind: 'resume' };

const say = (state: State, said: Said): State =>
  advance(checkout, state, { epoch: state.epoch, ...said } as Input).state;

/** What is due, as one word: "query authorize +100", "compensate reserve", "failed cancelled". */
function due(state: State): string {
  const command = commandOf(checkout, state);
  if (command.kind === 'stuck') return `stuck: ${command.reason}`;
  if (command.kind === 'finished') {
    const { result } = command;
    return result.kind === 'completed' ? 'completed' : `failed ${result.failure.cause}`;
  }
  const wait = command.afterMs > 0 ? ` +${command.afterMs}` : '';
  return `${command.kind} ${checkout.steps[command.step]?.name}${wait}`;
}

t.test('ways of a checkout', async (t) => {
  const rows: [string, Said[], string[]][] = [
    ['done', [done, done, done, done], ['run authorize', 'run confirm', 'run capture', 'completed']],
    ['refused at once', [no], ['failed rejected']],
    ['refused later', [done, no, undone], ['run authorize', 'compensate reserve', 'failed rejected']],
    [
      'asks before it tries again',
      [unknown, absent, done],
      ['query reserve +100', 'run reserve +200', 'run authorize'],
    ],
    ['asks until it is known', [unknown, unknown, done], ['query reserve +100', 'query reserve +200', 'run authorize']],
    ['asks and hears no', [unknown, no], ['query reserve +100', 'failed rejected']],
    ['cancelled while it runs', [cancel, done, undone], ['query reserve', 'compensate reserve', 'failed cancelled']],
    [
      'cancelled while unknown',
      [unknown, cancel, absent],
      ['query reserve +100', 'query reserve', 'compensate reserve'],
    ],
    ['cancelled, absent is final', [done, cancel, absent], ['run authorize', 'query authorize', 'compensate reserve']],
    ['cancelled at a local step', [done, done, cancel], ['run authorize', 'run confirm', 'compensate authorize']],
    ['too late to cancel', [done, done, done, cancel, done], ['', '', 'run capture', 'run capture', 'completed']],
    ['time is up', [expire, done, undone], ['query reserve', 'compensate reserve', 'failed expired']],
    ['time does not matter after the pivot', [done, done, done, expire], ['', '', 'run capture', 'run capture']],
    ['an operator turns it back', [done, force, done], ['', 'query authorize', 'compensate authorize']],
    ['not after the pivot', [done, done, done, force], ['', '', 'run capture', 'run capture']],
    ['a second wish changes nothing', [cancel, expire, no], ['query reserve', 'query reserve', 'failed cancelled']],
    [
      'without a status query it runs again under its key',
      [done, done, done, unknown, done],
      ['', '', 'run capture', 'run capture +100', 'completed'],
    ],
    [
      'stuck after the pivot, resumed',
      [done, done, done, unknown, unknown, unknown, resume, done],
      ['', '', '', 'run capture +100', 'run capture +200', 'stuck: UNAVAILABLE', 'run capture', 'completed'],
    ],
    ['refused after the pivot', [done, done, done, no, resume], ['', '', '', 'stuck: NO', 'run capture']],
    [
      'compensations are tried again, then stuck, then resumed',
      [done, no, fails, fails, fails, resume, undone],
      [
        '',
        '',
        'compensate reserve +100',
        'compensate reserve +200',
        'stuck: UNAVAILABLE',
        'compensate reserve',
        'failed rejected',
      ],
    ],
    ['a compensation is refused', [done, no, refuses, resume], ['', '', 'stuck: CAPTURED', 'compensate reserve']],
    [
      'a status nobody knows on the way back is stuck, and an operator may only ask again',
      [done, cancel, unknown, unknown, unknown, force],
      ['', 'query authorize', 'query authorize +100', 'query authorize +200', 'stuck: UNAVAILABLE', 'query authorize'],
    ],
  ];
  for (const [name, said, expected] of rows) {
    t.test(name, async (t) => {
      let state = begin();
      said.forEach((input, index) => {
        state = say(state, input);
        if (expected[index]) t.equal(due(state), expected[index], `after ${index + 1}: ${input.kind}`);
      });
    });
  }
});

t.test('pauses double up to the cap, and before the pivot it never gives up', async (t) => {
  let state = begin();
  const pauses: number[] = [];
  for (let attempt = 0; attempt < 50; attempt += 1) {
    state = say(state, unknown);
    const command = commandOf(checkout, state);
    if (command.kind !== 'query') throw new Error(`${command.kind} is due`);
    pauses.push(command.afterMs);
  }
  t.strictSame(pauses.slice(0, 6), [100, 200, 400, 800, 1_000, 1_000]);
  t.equal(pauses[49], 1_000);
});

t.test('a refusal that is resumed gets a new key, anything else keeps it', async (t) => {
  const capture = [done, done, done].reduce(say, begin());
  t.equal([no, resume].reduce(say, capture).round, 1);
  t.equal([no, resume, no, resume].reduce(say, capture).round, 2);
  t.equal([unknown, unknown, unknown, resume].reduce(say, capture).round, 0);
});

t.test('who cancelled too late is remembered', async (t) => {
  const capture = [done, done, done].reduce(say, begin());
  const end = commandOf(checkout, [cancel, done].reduce(say, capture));
  t.strictSame(end, { kind: 'finished', result: { kind: 'completed', cancelTooLate: true } });
});

t.test('late and duplicate answers change nothing', async (t) => {
  const before = begin();
  const after = say(before, done);
  for (const said of [done, no, absent, unknown, undone, fails, refuses]) {
    t.equal(advance(checkout, after, { ...said, epoch: before.epoch } as Input).state, after, said.kind);
  }
  t.equal(say(begin(), undone), begin(), 'nor do answers to what was not asked');
});

t.test('a state survives JSON', async (t) => {
  const state = [done, cancel, unknown].reduce(say, begin());
  t.strictSame(say(JSON.parse(JSON.stringify(state)), done), say(state, done));
  t.ok(JSON.stringify(state).length < 400);
});
