import { InvalidArgumentError } from 'commander';
import { DeadlineError } from './exit-codes.ts';

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** The longest that a timer of Node can wait, about 24.8 days. */
const longestMs = 2 ** 31 - 1;

/** Reads a duration such as "500ms", "30s", "5m" or "2h"; a number alone counts seconds. Returns milliseconds. */
export function parseDuration(text: string): number {
  const [, number, unit = 's'] = /^(\d{1,9})(ms|s|m|h)?$/.exec(text) ?? [];
  const ms = number === undefined ? 0 : Number(number) * unitsMs[unit]!;
  if (ms < 1 || ms > longestMs) {
    throw new InvalidArgumentError('It is a duration such as 500ms, 30s, 5m or 2h, of at most 596h.');
  }
  return ms;
}

/** A duration as people write it: "30 s", "5 min", "2 h". */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${ms} ms`;
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000} h`;
  if (ms % 60_000 === 0) return `${ms / 60_000} min`;
  return `${Math.round(ms / 100) / 10} s`;
}

/** The total deadline of one command. */
export interface Deadline {
  /** Aborts when the deadline passes. */
  readonly signal: AbortSignal;
  remainingMs(): number;
  /** Moves the deadline to `ms` from now: for commands that learn only on the way how long they may take. */
  extendTo(ms: number): void;
  /** What the command waits for now, for the message of a passed deadline. */
  waitingFor: string;
  /** What to end before the process exits, such as a program that the command has started. */
  readonly cleanUps: (() => Promise<unknown>)[];
  clear(): void;
}

/** Starts the deadline of a command. `passed` is called once when it passes. */
export function startDeadline(ms: number, passed: (error: DeadlineError) => void): Deadline {
  const controller = new AbortController();
  let timer: NodeJS.Timeout;
  const begin = Date.now();
  let end = begin + ms;
  const expire = () => {
    const total = formatDuration(end - begin);
    const what = deadline.waitingFor ? ` while it waited for ${deadline.waitingFor}` : '';
    const error = new DeadlineError(`the deadline of ${total} passed${what}; --timeout sets another`);
    controller.abort(error);
    passed(error);
  };
  const arm = () => {
    clearTimeout(timer);
    // A deadline does not keep a command alive that has nothing left to do.
    timer = setTimeout(expire, end - Date.now()).unref();
  };
  const deadline: Deadline = {
    signal: controller.signal,
    waitingFor: '',
    cleanUps: [],
    remainingMs: () => Math.max(1, end - Date.now()),
    extendTo(again) {
      end = Date.now() + again;
      arm();
    },
    clear: () => clearTimeout(timer),
  };
  arm();
  return deadline;
}
