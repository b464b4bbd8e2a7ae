/**
 * Stateless search: every schedule of some actors' steps is a run of its own, from the start. Depth first; the
 * next run repeats the choices of the last one up to the deepest place where another was possible.
 */

/** The next step of one actor. */
export interface Step {
  readonly actor: string;
  readonly label: string;
}

/** Chooses one of the enabled steps, none of which is blocked. */
export type Choose = (enabled: readonly Step[]) => Step;

export interface Exploration {
  /** Runs that were checked: one of each class of schedules that differ only in the order of independent steps. */
  readonly explored: number;
  /** Runs that turned out to be equivalent to an earlier one. */
  readonly redundant: number;
  /** Whether all schedules are explored. */
  readonly exhausted: boolean;
  readonly longest: number;
}

export interface ExploreOptions {
  /** Makes one run from new rows. Calls `choose` for every step. Returns a function that checks the outcome. */
  run: (choose: Choose) => Promise<(schedule: readonly Step[]) => void>;
  /** Whether the order of two steps of different actors makes no difference, and neither blocks the other. */
  independent: (one: Step, other: Step) => boolean;
  runsMax: number;
}

interface Place {
  readonly enabled: readonly Step[];
  /** Steps whose schedules from here were explored elsewhere: taking one of them first would repeat them. */
  readonly asleep: readonly Step[];
  readonly tried: Step[];
  chosen: Step;
}

const same = (one: Step, other: Step) => one.actor === other.actor && one.label === other.label;
const has = (steps: readonly Step[], step: Step) => steps.some((one) => same(one, step));

/** Text form of a schedule in messages: "a:lock b:lock a:commit". */
export const written = (schedule: readonly Step[]): string =>
  schedule.map(({ actor, label }) => `${actor}:${label.replaceAll(' ', '-')}`).join(' ');

export async function explore({ run, independent, runsMax }: ExploreOptions): Promise<Exploration> {
  const path: Place[] = [];
  const count = { explored: 0, redundant: 0, longest: 0 };
  for (;;) {
    if (count.explored + count.redundant >= runsMax) return { ...count, exhausted: false };
    const schedule: Step[] = [];
    let redundant = false;
    const judge = await run((enabled) => {
      const place = path[schedule.length];
      const step = place ? repeat(place, enabled, schedule) : redundant ? enabled[0]! : extend(enabled);
      schedule.push(step);
      return step;
    });
    count.longest = Math.max(count.longest, schedule.length);
    if (redundant) count.redundant += 1;
    else {
      count.explored += 1;
      judge(schedule);
    }
    if (!backtrack()) return { ...count, exhausted: true };

    function extend(enabled: readonly Step[]): Step {
      const last = path.at(-1);
      const asleep = last
        ? [...last.asleep, ...last.tried].filter(
            (one) => one.actor !== last.chosen.actor && independent(one, last.chosen),
          )
        : [];
      const chosen = enabled.find((step) => !has(asleep, step));
      if (chosen) {
        path.push({ enabled, asleep, tried: [], chosen });
        return chosen;
      }
      redundant = true;
      return enabled[0]!;
    }
  }

  /** Moves to the next schedule. Returns false if there is none. */
  function backtrack(): boolean {
    for (let place = path.at(-1); place; place = path.at(-1)) {
      place.tried.push(place.chosen);
      const { enabled, tried, asleep } = place;
      const next = enabled.find((step) => !has(tried, step) && !has(asleep, step));
      if (next) {
        place.chosen = next;
        return true;
      }
      path.pop();
    }
    return false;
  }
}

/** Checks that the same choices lead to the same place; otherwise the search would prove nothing. */
function repeat(place: Place, enabled: readonly Step[], schedule: readonly Step[]): Step {
  if (written(enabled) !== written(place.enabled)) {
    throw new Error(
      `after ${written(schedule) || 'nothing'} there was ${written(place.enabled)}, and now ${written(enabled)}`,
    );
  }
  return place.chosen;
}
