/** A case of racing requests: runs all interleavings, and compares each outcome with those of the serial orders. */
import { RpcError } from '@armature/runtime';
import { childTrace, openCall, silentLog } from '@armature/runtime/context';
import { long } from '../../support/tier.ts';
import type { Choose, Exploration, Step } from './explorer.ts';
import { explore, written } from './explorer.ts';
import type { Actor, Points, Races, Result } from './race.ts';

/** Explores also interleavings that are equivalent to others; takes about ten times as long. */
export const full = process.env.ARMATURE_RACES_DEPTH === 'full';

export interface RaceCase<Rows> {
  readonly name: string;
  readonly points: Points;
  /** `make test` skips this case and runs another of the same kind. */
  readonly long?: true;
  /** The actors send equal requests, so it does not matter which of those that have not begun begins first. */
  readonly alike?: boolean;
  /** Creates new rows for one run. */
  prepare(): Promise<Rows>;
  actors(rows: Rows): readonly Actor[];
  /** The final state after a run as text, without ids and times, so that runs can be compared. */
  effect(rows: Rows): Promise<string>;
  /** Violations that are wrong in every order; empty if there are none. */
  wrong(rows: Rows): Promise<readonly string[]>;
  /** Outcomes that no serial order has, with the reason why they are correct. */
  readonly alsoRight?: Readonly<Record<string, string>>;
}

/** The cases of this run. */
export const chosen = <One extends { readonly long?: true }>(cases: readonly One[]): One[] =>
  cases.filter((one) => long || !one.long);

export interface CaseReport extends Exploration {
  readonly name: string;
  readonly actors: number;
  readonly points: string;
  /** Interleavings in which an actor waited for a row lock. */
  readonly contended: number;
  /** Interleavings in which an actor was told to retry, and did. */
  readonly asked: number;
  /** Number of interleavings by outcome. */
  readonly outcomes: ReadonlyMap<string, number>;
  /** Outcomes of the serial orders. */
  readonly serial: ReadonlySet<string>;
  readonly violations: readonly string[];
  readonly seconds: number;
}

/** Reason of the error while another request works on the same resource. */
export const comeBack = 'CONTENTION';
const runsMax = 20_000;
const violationsShown = 5;

/**
 * A step at the acquirer and a step in the database are independent. Two steps of one kind always count as dependent.
 */
const outside = (step: Step) => step.label.startsWith('ask ');
const independent = (one: Step, other: Step) => !full && outside(one) !== outside(other);

export async function exploreCase<Rows>(race: Races['race'], one: RaceCase<Rows>): Promise<CaseReport> {
  const begin = performance.now();
  const outcomes = new Map<string, number>();
  const violations: string[] = [];
  let contended = 0;
  let asked = 0;
  const judgeRun = async (rows: Rows, actors: readonly Actor[], { responses, lockWaits }: Result) => {
    let retried = 0;
    for (const actor of actors) {
      if (responses[actor.name] !== comeBack || !('again' in actor) || !actor.again) continue;
      responses[actor.name] = await actor.again();
      retried += 1;
    }
    const given = actors.flatMap(({ name }) => (name in responses ? [`${name} ${responses[name]}`] : []));
    const outcome = [...given, await one.effect(rows)].join(', ');
    return { outcome, wrong: await one.wrong(rows), lockWaits, retried };
  };
  const run = async (choose: Choose) => {
    const rows = await one.prepare();
    const actors = one.actors(rows);
    return judgeRun(rows, actors, await race(actors, one.points, choose));
  };
  /** Starts each actor only after the previous one has got its response. */
  const oneByOne = async (order: readonly string[]) => {
    const rows = await one.prepare();
    const actors = one.actors(rows);
    const responses: Record<string, string> = {};
    for (const name of order) {
      const alone = actors.filter((actor) => actor.name === name);
      Object.assign(responses, (await race(alone, one.points, ([first]) => first!)).responses);
    }
    return judgeRun(rows, actors, { responses, lockWaits: 0 });
  };
  const alike = one.alike === true && !full;
  const serial = new Set<string>();
  const names = one.actors(await one.prepare()).map(({ name }) => name);
  for (const order of permutations(names)) {
    const { outcome, wrong } = await oneByOne(order);
    serial.add(outcome);
    if (wrong.length > 0) violations.push(`serial, ${order.join(' ')}: ${wrong.join('; ')}`);
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
          violations.push(`${written(schedule)}: no serial order has the outcome: ${outcome}`);
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

/** Of the actors that have taken no step, offers only the first: starting another one leads to the same states. */
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

/** Prints the report of a case. Fails unless all interleavings were explored and every outcome is right. */
export function judge(t: Assertions, report: CaseReport): void {
  const { name, actors, explored, redundant, contended, asked, seconds, outcomes } = report;
  t.comment(
    `${name} | ${actors} actors at ${report.points} | ${explored} interleavings (${redundant} more are equivalent), ` +
      `${contended} with a lock wait, ${asked} with a retry, up to ${report.longest} steps | ${seconds.toFixed(1)} s`,
  );
  for (const [outcome, count] of outcomes) t.comment(`  ${String(count).padStart(5)}  ${outcome}`);
  t.ok(report.exhausted, `${name}: nothing is left to explore`);
  t.ok(explored > 1, `${name}: there was more than one interleaving`);
  t.strictSame(report.violations.slice(0, violationsShown), [], `${name}: every interleaving is right`);
}

const opened = new Set<{ close(): void }>();

/**
 * A call context on whose behalf a request can be made, so that the request and all its effects carry this trace. It
 * ends with the case.
 */
export function under(traceparent: string, timeoutMs = 10_000) {
  const call = openCall<null>({
    ...{ kind: 'background', name: 'race', message: null, deadline: Date.now() + 3 * timeoutMs, log: silentLog },
    trace: childTrace(traceparent),
  });
  opened.add(call);
  return call;
}

/** Otherwise the deadlines of these contexts would keep the process alive after the last case. */
function closeCalls(): void {
  for (const call of opened) call.close();
  opened.clear();
}

/** "ok", or the reason of the error. Rethrows everything else, and errors that the service has not foreseen. */
export async function responseOf(sent: Promise<unknown>): Promise<string> {
  try {
    await sent;
    return 'ok';
  } catch (error) {
    if (error instanceof RpcError && error.reason !== '' && error.code !== 'INTERNAL') return error.reason;
    throw error;
  }
}
