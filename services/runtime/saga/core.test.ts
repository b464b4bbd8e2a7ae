import t from 'tap';
import {
  advance,
  backoffMs,
  begin,
  type CoreDefinition,
  type CoreStep,
  type Input,
  nextOf,
  type State,
} from './core.ts';
import { readState, type StateOfFormat1 } from './state-format.ts';

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

/** Time between two inputs: the third failure in a row exceeds the time for all tries. */
const stepMs = 1_500;
let clock = 0;

/** Applies an input to the branch of a step; without one to the first branch. */
function say(state: State, said: Said, definition = checkout, step?: string): State {
  clock += stepMs;
  const branch = state.branches.find((one) => step === undefined || definition.steps[one.step]?.name === step);
  const input = { epoch: branch?.epoch ?? 0, ...said } as Input;
  const timed = ['unknown', 'absent', 'uncompensated'].includes(input.kind) ? { ...input, at: clock } : input;
  return advance(definition, state, timed);
}
const saidAll = (state: State, inputs: readonly Said[]): State => inputs.reduce((at, said) => say(at, said), state);

/** The due commands as text: "query authorize +100", "compensate reserve", "failed cancelled". */
function due(state: State, definition = checkout): string {
  const next = nextOf(definition, state);
  if (next.kind === 'stuck') return `stuck: ${next.reason}`;
  if (next.kind === 'finished') {
    return next.result.kind === 'completed' ? 'completed' : `failed ${next.result.failure.cause}`;
  }
  return next.branches
    .map(({ phase, step, attempt }) => {
      const wait = attempt > 0 ? ` +${backoffMs(definition, attempt)}` : '';
      return `${phase} ${definition.steps[step]?.name}${wait}`;
    })
    .join(', ');
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
      'an unknown status while compensating is stuck, and an operator may only ask again',
      [done, cancel, unknown, unknown, unknown, force],
      ['', 'query authorize', 'query authorize +100', 'query authorize +200', 'stuck: UNAVAILABLE', 'query authorize'],
    ],
  ];
  for (const [name, said, expected] of rows) {
    t.test(name, async (t) => {
      let state = begin(checkout);
      said.forEach((input, index) => {
        state = say(state, input);
        if (expected[index]) t.equal(due(state), expected[index], `after ${index + 1}: ${input.kind}`);
      });
    });
  }
});

t.test('pauses double up to the longest, and before the pivot it tries on for ever', async (t) => {
  let state = begin(checkout);
  const pauses: number[] = [];
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const before = state.branches[0]!.notBefore;
    state = say(state, unknown);
    const [branch] = state.branches;
    t.equal(branch?.phase, 'query');
    pauses.push(branch!.notBefore - clock);
    t.ok(branch!.notBefore > before);
  }
  t.strictSame(pauses.slice(0, 6), [100, 200, 400, 800, 1_000, 1_000]);
  t.equal(pauses[49], 1_000);
});

t.test('a pause is as long as the peer asks for, within a minute', async (t) => {
  const rows: [asked: number | undefined, pause: number][] = [
    [undefined, 100],
    [50, 100],
    [20_000, 20_000],
    [86_400_000, 60_000],
  ];
  const back = saidAll(begin(checkout), [done, no]);
  for (const [retryAfterMs, pause] of rows) {
    const asked = retryAfterMs === undefined ? {} : { retryAfterMs };
    const trying = say(begin(checkout), { ...unknown, ...asked });
    t.equal(trying.branches[0]!.notBefore - clock, pause, `a step, asked for ${retryAfterMs}`);
    const undoing = say(back, { ...fails, ...asked });
    t.equal(undoing.branches[0]!.notBefore - clock, pause, `a compensation, asked for ${retryAfterMs}`);
  }
});

t.test('tries end by the time since the first failed one, however many there were', async (t) => {
  const capture = saidAll(begin(checkout), [done, done, done]);
  const failing = (at: number): Input => ({ kind: 'unknown', epoch: 0, at, detail: 'UNAVAILABLE' });
  const tried = (times: readonly number[]) =>
    times.reduce(
      (state, at) => advance(checkout, state, { ...failing(at), epoch: state.branches[0]!.epoch } as Input),
      capture,
    );
  const often = Array.from({ length: 500 }, (_, index) => index * 6);
  t.match(due(tried(often)), /^run capture/, '500 tries within the time');
  t.match(due(tried([0, 2_999])), /^run capture/);
  t.match(due(tried([0, 3_000])), /^stuck/);
  t.match(due(tried([100_000, 102_999])), /^run capture/, 'the time of the saga before does not count');
});

t.test('a resumed step has all of its time again', async (t) => {
  const capture = saidAll(begin(checkout), [done, done, done]);
  const stuck = saidAll(capture, [unknown, unknown, unknown]);
  t.match(due(stuck), /^stuck/);
  t.equal(due(saidAll(stuck, [resume, unknown, unknown])), 'run capture +200');
});

t.test('a refusal that is resumed gets a new key, anything else keeps it', async (t) => {
  const capture = saidAll(begin(checkout), [done, done, done]);
  const round = (state: State) => state.branches[0]?.round;
  t.equal(round(saidAll(capture, [no, resume])), 1);
  t.equal(round(saidAll(capture, [no, resume, no, resume])), 2);
  t.equal(round(saidAll(capture, [unknown, unknown, unknown, resume])), 0);
});

t.test('a cancel request that came too late is remembered', async (t) => {
  const capture = saidAll(begin(checkout), [done, done, done]);
  const end = nextOf(checkout, saidAll(capture, [cancel, done]));
  t.strictSame(end, { kind: 'finished', result: { kind: 'completed', cancelTooLate: true } });
});

t.test('late and duplicate outcomes change nothing', async (t) => {
  const before = begin(checkout);
  const after = say(before, done);
  for (const said of [done, no, absent, unknown, undone, fails, refuses]) {
    t.equal(advance(checkout, after, { ...said, epoch: before.epoch } as Input), after, said.kind);
  }
  t.equal(say(before, undone), before, 'nor do outcomes of what was not asked');
});

t.test('a state survives JSON', async (t) => {
  const state = saidAll(begin(checkout), [done, cancel, unknown]);
  clock = 0;
  const stored = say(JSON.parse(JSON.stringify(state)), done);
  clock = 0;
  t.strictSame(stored, say(state, done));
  t.ok(JSON.stringify(state).length < 450);
});

t.test('independent compensations', async (t) => {
  const sale: CoreDefinition = { ...checkout, compensation: 'independent' };
  const back = [done, no].reduce((state, said) => say(state, said, sale), begin(sale));
  const cancelled = [done, cancel, done].reduce((state, said) => say(state, said, sale), begin(sale));
  t.equal(due(back, sale), 'compensate reserve', 'what was refused is not compensated');
  t.equal(due(cancelled, sale), 'compensate authorize, compensate reserve', 'the latest first');

  const waits = say(cancelled, fails, sale, 'authorize');
  t.equal(due(waits, sale), 'compensate authorize +100, compensate reserve', 'one that fails leaves the other due');
  const returned = say(waits, undone, sale, 'reserve');
  t.equal(due(returned, sale), 'compensate authorize +100');
  t.equal(due(say(returned, undone, sale), sale), 'failed cancelled');

  const refused = say(cancelled, refuses, sale, 'authorize');
  t.equal(due(refused, sale), 'compensate reserve', 'one that is refused as well');
  t.equal(due(say(refused, undone, sale, 'reserve'), sale), 'stuck: CAPTURED', 'stuck once only that is left');
  t.equal(due(say(say(refused, undone, sale, 'reserve'), resume, sale), sale), 'compensate authorize');

  const both = say(refused, refuses, sale, 'reserve');
  t.equal(due(both, sale), 'stuck: CAPTURED; CAPTURED');
  t.equal(due(say(both, resume, sale), sale), 'compensate authorize, compensate reserve', 'all of them are resumed');
});

t.test('a group of steps', async (t) => {
  const cancellation: CoreDefinition = {
    ...{ ...checkout, name: 'cancellation', mustComplete: true, compensation: 'independent' },
    steps: [
      step('decide', { local: true, queryable: false, compensable: false }),
      step('refund', { queryable: false, compensable: false, group: 'undo' }),
      step('return', { queryable: false, compensable: false, group: 'undo' }),
      step('tell', { queryable: false, compensable: false }),
    ],
  };
  const at = (state: State, said: Said, name?: string) => say(state, said, cancellation, name);
  const is = (state: State) => due(state, cancellation);
  const group = at(begin(cancellation), done);
  t.equal(is(group), 'run refund, run return');
  t.equal(is(at(group, no, 'refund')), 'run return', 'a refused step leaves the other due');
  t.equal(is(at(at(group, no, 'refund'), done, 'return')), 'stuck: NO', 'the next step does not start without it');
  t.equal(is(at(at(at(group, no, 'refund'), done, 'return'), resume)), 'run refund');
  t.equal(is(at(at(group, done, 'return'), done, 'refund')), 'run tell', 'they end in any order');
  t.equal(is(at(group, force)), 'run refund, run return', 'an operator cannot turn it back');
  t.equal(at(group, expire), group, 'nor can time');
});

t.test('a failed saga that must complete is restarted, and no other', async (t) => {
  const cancellation: CoreDefinition = { ...checkout, mustComplete: true };
  const failed = { ...begin(checkout), end: 'failed' as const, epoch: 7, branches: [], failure: null };
  const restart: Said = { kind: 'restart', after: 7 };
  const restarted = say(failed, restart, cancellation);
  t.equal(due(restarted, cancellation), 'run reserve');
  t.match(restarted, { end: null, epoch: 8, branches: [{ epoch: 8 }] }, 'epochs go on');
  t.equal(say(restarted, restart, cancellation), restarted, 'once');
  t.equal(say(failed, restart, checkout), failed, 'one that may fail has ended');
  t.equal(say(failed, { kind: 'restart', after: 6 }, cancellation), failed, 'another end');
  const completed = { ...failed, end: 'completed' as const };
  t.equal(say(completed, restart, cancellation), completed, 'one that is complete');
});

t.test('states of format 1', async (t) => {
  const old: StateOfFormat1 = {
    ...{ format: 1, phase: 'compensate', step: 1, epoch: 7, attempt: 3, round: 1, absent: false, cancelTooLate: false },
    ...{ failure: { cause: 'cancelled', step: 'authorize', reason: 'CUSTOMER', detail: '' }, stuck: null },
  };
  const read = (more: Partial<StateOfFormat1>, definition = checkout) =>
    readState(JSON.stringify({ ...old, ...more }), definition);
  t.equal(due(read({})), 'compensate authorize +400');
  t.equal(due(say(read({}), undone)), 'compensate reserve');
  const independent: CoreDefinition = { ...checkout, compensation: 'independent' };
  t.equal(due(read({}, independent), independent), 'compensate authorize +400, compensate reserve');
  t.equal(due(read({ phase: 'query', attempt: 0 })), 'query authorize');
  t.equal(due(read({ phase: 'failed' })), 'failed cancelled');
  t.equal(due(read({ phase: 'completed', failure: null })), 'completed');
  const stuck = read({ phase: 'stuck', stuck: { phase: 'compensate', refused: true, reason: 'CAPTURED' } });
  t.equal(due(stuck), 'stuck: CAPTURED');
  t.equal(say(stuck, resume).branches[0]?.round, 2);
  t.strictSame(readState(JSON.stringify(stuck), checkout), stuck, 'and those of format 2 are read as they are');
  t.throws(() => read({ format: 3 as 1 }), /format 3, which this process does not know/);
});
