// Runs the shop under fire and says what is left of its promises: DURATION (seconds), SEED, POINTS (names, by commas).
import { join } from 'node:path';
import { fail } from '../../scripts/progress.ts';
import { runDirectory, writeAtomically } from '../../scripts/state.ts';
import { type CrashReport, crash } from './run.ts';

const { DURATION = '60', SEED = String(Math.floor(Math.random() * 2 ** 31)), POINTS = '' } = process.env;

async function main(): Promise<void> {
  const seconds = wholeNumber('DURATION', DURATION, 5, 86_400);
  const seed = wholeNumber('SEED', SEED, 0, 2 ** 32 - 1);
  const points = POINTS.split(',').filter((name) => name !== '');
  const undo: (() => unknown)[] = [];
  const cleanUp = async () => {
    for (let step = undo.pop(); step; step = undo.pop()) await step();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => cleanUp().finally(() => process.exit(1)));
  }
  const start = performance.now();
  const say = (line: string) =>
    console.log(`${((performance.now() - start) / 1000).toFixed(0).padStart(5)} s  ${line}`);
  try {
    const report = await crash(
      { teardown: (step) => undo.push(step) },
      { seconds, seed, say, ...(points.length > 0 ? { points } : {}) },
    );
    const file = join(runDirectory(), 'crash.json');
    writeAtomically(file, `${JSON.stringify(report, null, 2)}\n`);
    console.log(`\n${summary(report)}\n\nAll of it is in ${file}`);
    process.exitCode = report.violations.length > 0 ? 1 : 0;
  } finally {
    await cleanUp();
  }
}

function wholeNumber(name: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < low || value > high) {
    throw new Error(`${name}: "${text}" is not a whole number from ${low} to ${high}`);
  }
  return value;
}

function summary({
  seed,
  seconds,
  orders,
  kills,
  recoveryMs,
  unvisited,
  cleanAfterMs,
  violations,
}: CrashReport): string {
  const table = (rows: readonly (readonly [string, string | number])[]) =>
    rows.map(([name, value]) => `  ${name.padEnd(44)} ${String(value).padStart(7)}`).join('\n');
  const accepted = Object.values(orders).reduce((sum, count) => sum + count, 0);
  const recoveries = Object.entries(recoveryMs).map(
    ([who, { count, median, max }]) => [`${who} (${count} times)`, `${median} / ${max} ms`] as const,
  );
  return [
    `seed ${seed}, ${seconds} s: ${accepted} orders accepted, ${kills.total} processes killed`,
    `orders by what was wanted and how they ended\n${table(Object.entries(orders))}`,
    `killed at\n${table(Object.entries(kills.byPoint))}`,
    `ready again after, median / longest\n${table(recoveries)}`,
    ...(unvisited.length > 0 ? [`nothing died at ${unvisited.join(', ')}`] : []),
    cleanAfterMs === null ? 'never clean' : `clean ${(cleanAfterMs / 1000).toFixed(1)} s after everything ran again`,
    `${violations.length} violations${violations.map((line) => `\n  !! ${line}`).join('')}`,
  ].join('\n\n');
}

await main().catch(fail);
