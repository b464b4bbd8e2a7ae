import { UsageError } from '../exit-codes.ts';

/**
 * The candidate that was most probably meant, or undefined when none is close: one letter in three may be wrong,
 * and case does not matter.
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: { candidate: string; distance: number } | undefined;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (!best || distance < best.distance) best = { candidate, distance };
  }
  return best && best.distance <= Math.max(1, Math.floor(word.length / 3)) ? best.candidate : undefined;
}

/** "; did you mean X?", or nothing where nothing is near. */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const meant = nearest(word, candidates);
  return meant === undefined ? '' : `; did you mean ${meant}?`;
}

/**
 * The name, where it is one of the known ones. Throws otherwise: the problem, the nearest name and all of them.
 */
export function knownName<T extends string>(name: string, known: readonly T[], problem: string): T {
  const found = known.find((one) => one === name);
  if (found !== undefined) return found;
  throw new UsageError(`${problem}${didYouMean(name, known) || '.'} There are: ${known.join(', ')}.`);
}

/** How many letters to add, drop or change; two neighbours in the wrong order count once. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const next = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1] ? 0 : 1;
      let least = Math.min(next[column - 1]! + 1, last[column]! + 1, last[column - 1]! + same);
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (swapped) least = Math.min(least, before[column - 2]! + 1);
      next.push(least);
    }
    [before, last] = [last, next];
  }
  return last[b.length]!;
}
