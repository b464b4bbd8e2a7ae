/** A case of racing requests: all its interleavings are run, and each is held to what some order one by one gives. */
import { RpcError } from '@armature/runtime';
import { childTrace, openCall, silentLog } from '@armature/runtime/context';
import { long } from '../../support/tier.ts';
import type { Choose, Exploration, Step } from './explorer.ts';
import { explore, written } from './explorer.ts';
import type { Actor, Points, Races, Result } from './race.ts';

/** Everything is explored without leaving out what comes to the same; it takes some ten times as long. */
export const full = process.env.ARMATURE_RACES_DEPTH === 'full';

export interface RaceCase<Rows> {
  readonly name: string;
  readonly points: Points;
  /** Another case of the same kind stands for this one in `make test`. */
  readonly long?: true;
  /** The actors send equal requests, so which of those that have not begun begins first makes no difference. */
  readonly alike?: boolean;
  /** Fresh rows for one run. */
  prepare(): Promise<Rows>;
  actors(rows: Rows): readonly Actor[];
  /** How things stand after a run, without ids and times, so that runs can be compared. */
  effect(rows: Rows): Promise<string>;
  /** What must not be, whatever the order; empty when all is well. */
  wrong(rows: Rows): Promise<readonly string[]>;
  /** Outcomes that no order one by one has, with the reason why they are right all the same. */
  readonly alsoRight?: Readonly<Record<string, string>>;
}

/** The cases that this run takes. */
export const chosen = <One extends { readonly long?: true }>(cases: readonly One[]): One[] =>
  cases.filter((one) => long || !one.long);

export interface CaseReport extends Exploration {
  readonly name: string;
  readonly actors: number;
  readonly points: string;
  /** Interleavings in which somebody had to wait for a row lock. */
  readonly contended: number;
  /** Interleavings in which somebody was told to come back later, and did. */
  readonly asked: number;
  /** How many interleavings came to each outcome. */
  readonly outcomes: ReadonlyMap<string, number>;
  /** Outcomes of the orders one by one. */
  readonly serial: ReadonlySet<string>;
  readonly violations: readonly string[];
  readonly seconds: number;
}

/** What a request is told while another one is at work on the same thing. */
export const comeBack = 'CONTENTION';
const runsMax = 20_000;
const violationsShown = 5;

/** Steps at the acquirer and steps in the database touch nothing in common; two of a kind always count as touching. */
const outside = (step: Step) => step.label.startsWith('ask ');
const independent = (one: Step, other: Step) => !full && outside(one) !== outside(other);

export async function exploreCase<Rows>(race: Races['race'], one: RaceCase<Rows>): Promise<CaseReport> {
  const begin = performance.now();
  const outcomes = new Map<string, number>();
  const violations: string[] = [];
  let contended = 0;
  let asked = 0;
  const judgeRun = async (rows: Rows, actors: readonly Actor[], { answers, lockWaits }: Result) => {
    let retried = 0;
    for (const actor of actors) {
      if (answers[actor.name] !== comeBack || !('again' in actor) || !actor.again) continue;
      answers[actor.name] = await actor.again();
      retried += 1;
    }
    const given = actors.flatMap(({ name }) => (name in answers ? [`${name} ${answers[name]}`] : []));
    const outcome = [...given, await one.effect(rows)].join(', ');
    return { outcome, wrong: await one.wrong(rows), lockWaits, retried };
  };
  const run = async (choose: Choose) => {
    const rows = await one.prepare();
    const actors = one.actors(rows);
    return judgeRun(rows, actors, await race(actors, one.points, choose));
  };
  /** Nobody is even sent before the one before has been answered. */
  const oneByOne = async (order: readonly string[]) => {
    const rows = await one.prepare();
    const actors = one.actors(rows);
    const answers: Record<string, string> = {};
    for (const name of order) {
      const alone = actors.filter((actor) => actor.name === name);
      Object.assign(answers, (await race(alone, one.points, ([first]) => first!)).answers);
    }
    return judgeRun(rows, actors, { answers, lockWaits: 0 });
  };
  const alike = one.alike === true && !full;
  const serial = new Set<string>();
  const names = one.actors(await one.prepare()).map(({ name }) => name);
  for (const order of permutations(names)) {
    const { outcome, wrong } = await oneByOne(order);
    serial.add(outcome);
    if (wrong.length > 0) violations.push(`one by one, ${order.join(' ')}: ${wrong.join('; ')}`);
  }
  const exploration = await explore({
    runsMax,
    independent,
    run: async (choose) => {
      const { outcome, wrong, lockWaits, retried } = await run(alike ? firstOfAlike(choose) : choose);
      return (schedule) => {
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        if (lockWaits > 0) contended += 1;
        if (retried > 0) asked += 1;
        if (wrong.length > 0) violations.push(`${written(schedule)}: ${wrong.join('; ')}`);
        if (!serial.has(outcome) && !one.alsoRight?.[outcome])
          violations.push(`${written(schedule)}: no order one by one comes to: ${outcome}`);
      };
    },
  });
  closeCalls();
  return {
    ...exploration,
    ...{ name: one.name, actors: names.length, points: one.points.map(([label]) => label).join(', ') },
    ...{ contended, asked, outcomes, serial, violations, seconds: (performance.now() - begin) / 1000 },
  };
}

/** Offers of those who have taken no step only the first: what another one's start leads to is the same by another name. */
function firstOfAlike(choose: Choose): Choose {
  const begun = new Set<string>();
  return (enabled) => {
    const fresh = enabled.find(({ actor }) => !begun.has(actor));
    const step = choose(enabled.filter((one) => begun.has(one.actor) || one === fresh));
    begun.add(step.actor);
    return step;
  };
}

function permutations(names: readonly string[]): string[][] {
  if (names.length < 2) return [[...names]];
  return names.flatMap((name) => permutations(names.filter((one) => one !== name)).map((rest) => [name, ...rest]));
}

interface Assertions {
  comment(text: string): void;
  ok(value: unknown, message: string): unknown;
  strictSame(found: unknown, wanted: unknown, message: string): unknown;
}

/** Prints what was explored and fails unless it was everything, and all of it right. */
export function judge(t: Assertions, report: CaseReport): void {
  const { name, actors, explored, redundant, contended, asked, seconds, outcomes } = report;
  t.comment(
    `${name} | ${actors} actors at ${report.points} | ${explored} interleavings (${redundant} more came to the same), ` +
      `${contended} with a lock wait, ${asked} with a second try, up to ${report.longest} steps | ${seconds.toFixed(1)} s`,
  );
  for (const [outcome, count] of outcomes) t.comment(`  ${String(count).padStart(5)}  ${outcome}`);
  t.ok(report.exhausted, `${name}: nothing is left to explore`);
  t.ok(explored > 1, `${name}: there was something to choose`);
  t.strictSame(report.violations.slice(0, violationsShown), [], `${name}: every interleaving is right`);
}

const opened = new Set<{ close(): void }>();

/** A call that a request can be made on behalf of, so that it and all that it causes carry this trace. It ends with the case. */
export function under(traceparent: string, timeoutMs = 10_000) {
  const call = openCall<null>({
    ...{ kind: 'background', name: 'race', message: null, deadline: Date.now() + 3 * timeoutMs, log: silentLog },
    trace: childTrace(traceparent),
  });
  opened.add(call);
  return call;
}

/** Else their deadlines would keep the process waiting long after the last case. */
function closeCalls(): void {
  for (const call of opened) call.close();
  opened.clear();
}

/** "ok", or the reason of the refusal; anything but a refusal is thrown on, as is what the service has not foreseen. */
export async function answerOf(sent: Promise<unknown>): Promise<string> {
  try {
    await sent;
    return 'ok';
  } catch (error) {
    if (error instanceof RpcError && error.reason !== '' && error.code !== 'INTERNAL') return error.reason;
    throw error;
  }
}
