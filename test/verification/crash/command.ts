// What the commands of this folder share: what they are told by the environment, how they end, how they report.
import { join } from 'node:path';
import { fail } from '../../../scripts/devmesh/progress.ts';
import { runDirectory, writeAtomically } from '../../../scripts/devmesh/state.ts';
import type { Teardown } from '../../support/infra.ts';
import type { CrashReport } from './run.ts';

/** Says a line to the person who waits. */
export type Say = (line: string) => void;

/** Reads a whole number from the environment. Throws where it is none, or out of bounds. */
export function wholeNumber(name: string, otherwise: string, low: number, high: number): number {
  const text = process.env[name] || otherwise;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < low || value > high) {
    throw new Error(`${name}: "${text}" is not a whole number from ${low} to ${high}`);
  }
  return value;
}

/** SEED, or one of chance, which the report names. */
export const chosenSeed = (): number =>
  wholeNumber('SEED', String(Math.floor(Math.random() * 2 ** 31)), 0, 2 ** 32 - 1);

/**
 * Runs a command and ends the process: its report goes to `.run/<file>`, its summary to the terminal, and the status is
 * 1 where anything was violated. What was set up is undone, also after SIGINT and SIGTERM.
 */
export async function command(
  file: string,
  run: (t: Teardown, say: Say) => Promise<{ report: { violations: readonly string[] }; summary: string }>,
): Promise<void> {
  const undo: (() => unknown)[] = [];
  const cleanUp = async () => {
    for (let step = undo.pop(); step; step = undo.pop()) await step();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => cleanUp().finally(() => process.exit(1)));
  }
  const start = performance.now();
  const say: Say = (line) => console.log(`${((performance.now() - start) / 1000).toFixed(0).padStart(5)} s  ${line}`);
  try {
    const { report, summary } = await run({ teardown: (step) => undo.push(step) }, say);
    const path = join(runDirectory(), file);
    writeAtomically(path, `${JSON.stringify(report, null, 2)}\n`);
    console.log(`\n${summary}\n\nAll of it is in ${path}`);
    process.exitCode = report.violations.length > 0 ? 1 : 0;
  } catch (error) {
    await cleanUp();
    fail(error);
  }
  await cleanUp();
}

/** Names and values below each other. */
export const columns = (values: Readonly<Record<string, string | number>>): string =>
  Object.entries(values)
    .map(([name, value]) => `  ${name.padEnd(44)} ${String(value).padStart(7)}`)
    .join('\n');

/** Recovery times as they are shown: the median and the longest, by process. */
export const recoveries = (times: CrashReport['recoveryMs']): Record<string, string> =>
  Object.fromEntries(
    Object.entries(times).map(([who, { count, median, max }]) => [`${who} (${count} times)`, `${median} / ${max} ms`]),
  );

export const violated = (violations: readonly string[]): string =>
  `${violations.length} violations${violations.map((line) => `\n  !! ${line}`).join('')}`;

/** The last lines of a summary. */
export const verdict = ({ cleanAfterMs, violations }: Pick<CrashReport, 'cleanAfterMs' | 'violations'>): string[] => [
  cleanAfterMs === null ? 'never clean' : `clean ${(cleanAfterMs / 1000).toFixed(1)} s after everything ran again`,
  violated(violations),
];
