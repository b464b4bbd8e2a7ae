/**
 * Budgets of attempts, as numbers alone. A subject, such as an account, has failures, of which one is forgotten every
 * `forgetMs`. The first `free` cost nothing; after each further one the next attempt is due later, twice as late as the
 * last time, up to `maxGapMs`.
 */
export interface Budget {
  readonly free: number;
  readonly forgetMs: number;
  readonly maxGapMs: number;
}

/**
 * `familiar`: attempts at an account from a source that has signed in to it before, with a budget of their own that
 * guesses from elsewhere do not use up. A source is shared by many people, so it has more.
 */
export const budgets = {
  account: { free: 3, forgetMs: 60_000, maxGapMs: 60_000 },
  source: { free: 100, forgetMs: 5_000, maxGapMs: 5_000 },
  familiar: { free: 10, forgetMs: 60_000, maxGapMs: 60_000 },
} as const satisfies Record<string, Budget>;

export type BudgetKind = keyof typeof budgets;

const firstGapMs = 1_000;

/** The row of a subject: in how many milliseconds its failures are forgotten, and its next attempt is due. */
export interface Standing {
  readonly forgottenInMs: number;
  readonly dueInMs: number;
}

/** A subject without failures. */
export const unknownSubject: Standing = { forgottenInMs: 0, dueInMs: 0 };

/** How many failures of a subject are not forgotten yet. */
export const failuresOf = ({ forgottenInMs }: Standing, { forgetMs }: Budget): number =>
  Math.max(0, Math.ceil(forgottenInMs / forgetMs));

/** How long after the start of an attempt the next one is due, when so many failures are remembered with this one. */
export function gapAfter(failures: number, { free, maxGapMs }: Budget): number {
  if (failures < free) return 0;
  // More doublings than these exceed every gap.
  return Math.min(maxGapMs, firstGapMs * 2 ** Math.min(failures - free, 20));
}

/** Failures that are remembered at most: after the longest gap more have no effect, and would only be forgotten later. */
const failuresMax = (budget: Budget): number => budget.free + Math.ceil(Math.log2(budget.maxGapMs / firstGapMs));

/** The standing after an attempt that takes its turn in `turnInMs`, counted as failed. */
export function afterAttempt(standing: Standing, budget: Budget, turnInMs: number): Standing {
  const remembered = Math.max(0, standing.forgottenInMs) + budget.forgetMs;
  const forgottenInMs = Math.min(remembered, failuresMax(budget) * budget.forgetMs);
  return { forgottenInMs, dueInMs: turnInMs + gapAfter(failuresOf({ ...standing, forgottenInMs }, budget), budget) };
}
