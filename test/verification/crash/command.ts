// Shared by the commands of this folder: environment variables, exit status, report.
import { join } from 'node:path';
import { fail } from '../../../scripts/devmesh/progress.ts';
import { runDirectory, writeAtomically } from '../../../scripts/devmesh/state.ts';
import type { Teardown } from '../../support/infra.ts';
import type { CrashReport } from './run.ts';

/** Prints a progress line. */
export type Say = (line: string) => void;

/** Reads a whole number from the environment. Throws if the text is not one, or is out of bounds. */
export function wholeNumber(name: string, otherwise: string, low: number, high: number): number {
  const text = process.env[name] || otherwise;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < low || value > high) {
    throw new Error(`${name}: "${text}" is not a whole number from ${low} to ${high}`);
  }
  return value;
}

/** SEED, or a random seed; the report names it. */
export const chosenSeed = (): number =>
  wholeNumber('SEED', String(Math.floor(Math.random() * 2 ** 31)), 0, 2 ** 32 - 1);

/**
 * Runs a command and ends the process. Writes the report to `.run/<file>` and the summary to the terminal. The exit
 * status is 1 if there are violations. Teardowns run also after SIGINT and SIGTERM.
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
    console.log(`\n${summary}\n\nFull report: ${path}`);
    process.exitCode = report.violations.length > 0 ? 1 : 0;
  } catch (error) {
    await cleanUp();
    fail(error);
  }
  await cleanUp();
}

/** Formats names and values as two columns. */
export const columns = (values: Readonly<Record<string, string | number>>): string =>
  Object.entries(values)
    .map(([name, value]) => `  ${name.padEnd(44)} ${String(value).padStart(7)}`)
    .join('\n');

/** Formats recovery times by process: the median and the longest. */
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
