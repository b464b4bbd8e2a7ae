import { writeSync } from 'node:fs';

/**
 * Named places where a test may kill the process, to prove that what survives is enough. Unarmed, a
 * crash point costs one comparison. The kill is SIGKILL, so that no handler tidies up;
 * all that is left to say which point it was is a line on standard error.
 */
let passesLeft: Map<string, number> | null = null;

/**
 * Arms crash points from a comma-separated list: "relay.published" kills at the first pass,
 * "relay.published:3" at the third. An empty spec disarms all.
 */
export function armCrashPoints(spec: string): void {
  const armed = new Map<string, number>();
  for (const part of spec.split(',').map((text) => text.trim())) {
    if (part === '') continue;
    const match = /^([a-z][a-z0-9._-]*)(?::([1-9][0-9]{0,8}))?$/.exec(part);
    if (!match?.[1]) throw new Error(`crash point "${part}" is not of the form name or name:pass`);
    armed.set(match[1], Number(match[2] ?? 1));
  }
  passesLeft = armed.size > 0 ? armed : null;
}

/** Kills the process when `name` is armed and this is the armed pass. */
export function crashPoint(name: string): void {
  if (passesLeft !== null) pass(passesLeft, name);
}

/**
 * The crash points around a commit, of transactions that emit events: "place-order.before-commit" and
 * "place-order.committed" for the method PlaceOrder. Work without a method has the words of its name instead,
 * as in "sweep-expired-reservations.committed".
 */
export function crashPointOf(work: string, place: 'before-commit' | 'committed'): void {
  if (passesLeft !== null) pass(passesLeft, `${kebab(work)}.${place}`);
}

function kebab(work: string): string {
  return work
    .slice(work.lastIndexOf('/') + 1)
    .replace(/([a-z0-9])([A-Z])/g, '$1-$2')
    .replaceAll(' ', '-')
    .toLowerCase();
}

function pass(armed: Map<string, number>, name: string): void {
  const left = armed.get(name);
  if (left === undefined) return;
  if (left > 1) return void armed.set(name, left - 1);
  writeSync(2, `killed at crash point ${name}\n`);
  process.kill(process.pid, 'SIGKILL');
}
