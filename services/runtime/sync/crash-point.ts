import { writeSync } from 'node:fs';

/**
 * Named places where a test can kill the process, to prove that the durable state is enough for recovery. Unarmed, a
 * crash point costs one comparison. The kill is SIGKILL, so that no handler cleans up; a line on standard error names
 * the point.
 */
let passesLeft: Map<string, Armed> | null = null;

interface Armed {
  left: number;
  signal: 'SIGKILL' | 'SIGSTOP';
}

/**
 * Arms crash points from a comma-separated list: "relay.published" kills at the first pass, "relay.published:3" at the
 * third; "relay.published=stop" only stops the process there, until SIGCONT. An empty spec disarms all.
 */
export function armCrashPoints(spec: string): void {
  const armed = new Map<string, Armed>();
  for (const part of spec.split(',').map((text) => text.trim())) {
    if (part === '') continue;
    const match = /^([a-z][a-z0-9._-]*)(?::([1-9][0-9]{0,8}))?(=stop)?$/.exec(part);
    if (!match?.[1]) throw new Error(`crash point "${part}" is not of the form name, name:pass or name:pass=stop`);
    armed.set(match[1], { left: Number(match[2] ?? 1), signal: match[3] ? 'SIGSTOP' : 'SIGKILL' });
  }
  passesLeft = armed.size > 0 ? armed : null;
}

/** Kills or stops the process when `name` is armed and this is the armed pass. */
export function crashPoint(name: string): void {
  if (passesLeft !== null) pass(passesLeft, name);
}

/**
 * The crash points around a commit, of transactions that emit events: "place-order.before-commit" and
 * "place-order.committed" for the method PlaceOrder. For work without a method the name is made of the words of its
 * name, as in "periodic-job-expired-reservations.committed".
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

function pass(armed: Map<string, Armed>, name: string): void {
  const point = armed.get(name);
  if (!point || point.left === 0) return;
  point.left -= 1;
  if (point.left > 0) return;
  writeSync(2, `${point.signal === 'SIGKILL' ? 'killed' : 'stopped'} at crash point ${name}\n`);
  process.kill(process.pid, point.signal);
}
