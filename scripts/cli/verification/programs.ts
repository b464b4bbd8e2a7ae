// Runs the programs behind test, check, crash, keys, cold-start, races, faults and mutants, each in a process of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readJson, repository, runDirectory } from '../../devmesh/state.ts';
import type { Invocation } from '../command.ts';
import { printJson } from '../json.ts';

/** A program of this repository and what it is told. */
export interface ProgramRun {
  /** Path from the root of the repository. */
  program: string;
  args?: readonly string[];
  env?: Readonly<Record<string, string>>;
  /** The file in the run directory that holds its report. */
  report?: string;
}

/** How a program ended. */
export interface Outcome {
  result: 'passed' | 'failed';
  exitCode: number;
  seconds: number;
}

/** What a program may take to clean up after SIGTERM: it stops servers of its own. */
const graceMs = 45_000;

/** Runs a program and passes its exit code on. With --json its output goes to standard error, and its outcome is the result. */
export async function runCommand(run: ProgramRun, invocation: Invocation): Promise<void> {
  const outcome = await runProgram(run, invocation);
  process.exitCode = outcome.exitCode;
  if (!invocation.json) return;
  const report = run.report === undefined ? undefined : readJson(join(runDirectory(), run.report));
  printJson({ ...outcome, ...(report === undefined ? {} : { report }) });
}

/** Runs a program to its end. A passed deadline ends it by SIGTERM, then by force. */
export async function runProgram(run: ProgramRun, { json, deadline }: Invocation): Promise<Outcome> {
  const start = performance.now();
  const child = spawn(process.execPath, [join(repository, run.program), ...(run.args ?? [])], {
    cwd: repository,
    env: { ...process.env, PATH: `${join(repository, 'node_modules', '.bin')}:${process.env.PATH}`, ...run.env },
    stdio: ['inherit', json ? 2 : 'inherit', 'inherit'],
  });
  deadline.waitingFor = run.program;
  deadline.cleanUps.push(() => endChild(child));
  const forwarding = forwardSignals(child);
  try {
    const exitCode = await exitCodeOf(child);
    const seconds = Math.round((performance.now() - start) / 100) / 10;
    return { result: exitCode === 0 ? 'passed' : 'failed', exitCode, seconds };
  } finally {
    forwarding.end();
  }
}

async function exitCodeOf(child: ChildProcess): Promise<number> {
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  if (code !== null) return code;
  return signal === 'SIGINT' ? 130 : signal === 'SIGTERM' ? 143 : 1;
}

async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGTERM');
  const abort = new AbortController();
  await Promise.race([closed, sleep(graceMs, undefined, { signal: abort.signal }).catch(() => undefined)]);
  abort.abort();
  child.kill('SIGKILL');
}

/** While a program runs, it decides what a signal means. A terminal sends SIGINT to it by itself. */
function forwardSignals(child: ChildProcess): { end(): void } {
  const handlers = {
    SIGINT: () => undefined,
    SIGTERM: () => child.kill('SIGTERM'),
    SIGHUP: () => child.kill('SIGHUP'),
  } as const;
  for (const [name, handler] of Object.entries(handlers)) process.on(name, handler);
  return {
    end() {
      for (const [name, handler] of Object.entries(handlers)) process.off(name, handler);
    },
  };
}

/** The long variants of tests. */
export const longTier = { ARMATURE_TEST_TIER: 'long' } as const;

/** Tests of a folder of test/verification. */
export const testsOf = (folder: string): string[] =>
  globSync(`test/verification/${folder}/*.test.ts`, { cwd: repository }).sort();

/** Runs test files: all of a folder, or those that are named. */
export const testRun = (files: readonly string[], env: Readonly<Record<string, string>> = {}): ProgramRun => ({
  ...{ program: 'scripts/checks/test.ts', args: files, env, report: 'tests.json' },
});

/** The crash test. */
export const crashRun = (options: {
  duration: number;
  seed?: number;
  points?: readonly string[];
  record?: boolean;
}) => {
  const { duration, seed, points = [], record } = options;
  const env = environmentOf({ DURATION: duration, SEED: seed, POINTS: points.join(','), RECORD: record });
  return { program: 'test/verification/crash/main.ts', env, report: 'crash.json' } satisfies ProgramRun;
};

/** The idempotency test. */
export const keysRun = (options: { keys: number; sends: number; senders: number; storm: number; seed?: number }) => {
  const { keys, sends, senders, storm, seed } = options;
  const env = environmentOf({ KEYS: keys, SENDS: sends, SENDERS: senders, STORM: storm, SEED: seed });
  return { program: 'test/verification/crash/keys-main.ts', env, report: 'keys.json' } satisfies ProgramRun;
};

/** Cold starts: all processes are killed at once and started in any order. */
export const coldStartRun = (options: { rounds: number; seed?: number; record?: boolean }) => {
  const { rounds, seed, record } = options;
  const env = environmentOf({ ROUNDS: rounds, SEED: seed, RECORD: record });
  return { program: 'test/verification/crash/cold-start-main.ts', env, report: 'cold-start.json' } satisfies ProgramRun;
};

/** Every interleaving of racing requests. */
export const racesRun = ({ depth }: { depth?: string } = {}): ProgramRun =>
  testRun(testsOf('races'), { ...longTier, ...environmentOf({ ARMATURE_RACES_DEPTH: depth }) });

/** The mutation test; `only` chooses mutations by words of their names. */
export const mutantsRun = (only: readonly string[] = []) =>
  ({
    program: 'test/verification/mutation/main.ts',
    env: { ...longTier, ONLY: only.join(',') },
    report: 'mutants.json',
  }) satisfies ProgramRun;

/** An environment of the options that were given; a missing one is emptied, so that none is inherited by its short name. */
export function environmentOf(values: Readonly<Record<string, string | number | boolean | undefined>>) {
  const text = (value: string | number | boolean | undefined) =>
    value === true ? '1' : value === undefined || value === false ? '' : String(value);
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, text(value)]));
}
