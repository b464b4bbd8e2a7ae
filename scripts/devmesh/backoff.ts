const firstDelayMs = 250;
const longestDelayMs = 10_000;

/**
 * How long to wait before the n-th restart in a row (n counts from 1): twice as long each time up to a limit, and
 * a random half of it taken off, so that services that died together do not come back together.
 */
export function restartDelayMs(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(attempt - 1, 20));
  return Math.round(ceiling * (0.5 + random() / 2));
}
