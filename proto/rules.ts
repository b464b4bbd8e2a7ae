// What the generated validators call: the checks that are more than one comparison.
import type { FieldViolation } from './contract.ts';

export { emailProblem, isEmail } from './email.ts';
export { brokenLine, brokenLines, lineProblem, linesProblem } from './text.ts';

/** A message with ten thousand invalid lines gets violations for the first twenty. */
export const violationLimit = 20;

const uuid = /^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$/;

/** Adds a violation, unless there are enough of them already. */
export function report(violations: FieldViolation[], field: string, description: string, reason: string): void {
  if (violations.length < violationLimit) violations.push({ field, description, reason });
}

/** Puts the path of a nested message before the fields that its validator named, from index `from` on. */
export function nest(violations: FieldViolation[], from: number, path: string): void {
  for (let i = from; i < violations.length; i++) {
    const violation = violations[i] as FieldViolation;
    violation.field = violation.field === '' ? path : `${path}.${violation.field}`;
  }
}

/** Counts Unicode code points; a lone surrogate counts as one. */
export function codePoints(text: string): number {
  let count = text.length;
  for (let i = 0; i < text.length - 1; i++) {
    if ((text.charCodeAt(i) & 0xfc00) === 0xd800 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) {
      count--;
      i++;
    }
  }
  return count;
}

/** Counts code points only when it must: a text has at most as many as UTF-16 units, and at least half as many. */
export function longerThan(text: string, limit: number): boolean {
  return text.length > limit && (text.length > 2 * limit || codePoints(text) > limit);
}

export function shorterThan(text: string, limit: number): boolean {
  return text.length < limit || (text.length < 2 * limit && codePoints(text) < limit);
}

/** Counts the bytes of the text in UTF-8. */
export function utf8Bytes(text: string): number {
  return Buffer.byteLength(text, 'utf8');
}

/** Canonical form, 8-4-4-4-12 hexadecimal digits of either case. */
export function isUuid(text: string): boolean {
  return text.length === 36 && uuid.test(text);
}

/** Index of the first value that equals an earlier one, or -1. Short lists are compared pairwise, which allocates nothing. */
export function firstRepeat(list: readonly unknown[]): number {
  if (list.length > 32) return firstRepeatBySet(list);
  for (let i = 1; i < list.length; i++) {
    for (let j = 0; j < i; j++) if (list[i] === list[j]) return i;
  }
  return -1;
}

function firstRepeatBySet(list: readonly unknown[]): number {
  const seen = new Set<unknown>();
  for (let i = 0; i < list.length; i++) {
    if (seen.has(list[i])) return i;
    seen.add(list[i]);
  }
  return -1;
}

/** A comparison function: negative when a is shorter than b. */
export function compareDurations(
  a: { readonly seconds: bigint; readonly nanos: number },
  b: { readonly seconds: bigint; readonly nanos: number },
): number {
  if (a.seconds !== b.seconds) return a.seconds < b.seconds ? -1 : 1;
  return a.nanos - b.nanos;
}

/** The number of entries of a map field. */
export function pairs(map: object): number {
  if (map instanceof Map) return map.size;
  let count = 0;
  for (const key in map) if (Object.hasOwn(map, key)) count++;
  return count;
}

/** The path of a map's entry, as protovalidate writes it. Clients choose the keys, so long ones are cut. */
export function entryPath(field: string, key: string | number | bigint | boolean): string {
  if (typeof key !== 'string') return `${field}[${key}]`;
  return `${field}[${JSON.stringify(key.length > 64 ? `${key.slice(0, 64)}...` : key)}]`;
}

/** The validator of a message without rules. */
export function noRules(): void {}
