import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { endGroup } from '../processes.ts';
import { describe, type Failure, tally } from '../tally.ts';
import type { Detector } from './mutation.ts';

/** How a proof ended. "unable" is no verdict: nothing ran, or it ended before anything could fail. */
export type Finding =
  | { readonly kind: 'holds'; readonly assertions: number }
  /** `first` is the name of what failed first, `text` all that it said. */
  | { readonly kind: 'fails'; readonly first: string; readonly text: string }
  | { readonly kind: 'unable'; readonly text: string };

/** Where proofs run: a copy of the repository, and the folder of its servers (ARMATURE_RUN_DIR). */
export interface Place {
  readonly copy: string;
  readonly runDir: string;
  /** Aborted when everything is to stop. */
  readonly stopping: AbortSignal;
}

const limitMs = 300_000;
/** A run under fire stops its own servers when it is told to end. */
const crashGraceMs = 30_000;

/** Runs a proof in the copy, as far as its first failure. */
export function detect(detector: Detector, place: Place): Promise<Finding> {
  return detector.kind === 'test' ? runTest(detector, place) : runCrash(detector, place);
}

async function runTest({ file, only }: Extract<Detector, { kind: 'test' }>, place: Place): Promise<Finding> {
  let failure: Failure | undefined;
  let passed = 0;
  const found = new AbortController();
  const fails = (one: Failure | undefined) => {
    failure ??= one;
    if (failure) found.abort();
  };
  // A file that runs by itself has no file above its tests, so each outermost test comes as one.
  const parser = tally((test) => {
    passed += test.passed;
    fails(test.failures[0]);
  }, fails);
  const filter = only.map((name) => `/${escaped(name)}/`).join('\n');
  const env = { TAP_TIMEOUT: String(limitMs / 1_000), ...(filter ? { TAP_GREP: filter } : {}) };
  const ended = await run([file], {
    place,
    env,
    graceMs: 0,
    enough: found.signal,
    write: (text) => parser.write(text),
  });
  parser.end();
  if (failure) return { kind: 'fails', first: failure.path.join(' > '), text: describe(failure) };
  if (ended.code === 0 && passed > 0) return { kind: 'holds', assertions: passed };
  return { kind: 'unable', text: `${file} ended with ${ended.code} after ${passed} assertions:\n${ended.output}` };
}

async function runCrash(detector: Extract<Detector, { kind: 'crash' }>, place: Place): Promise<Finding> {
  const { seconds, seed, points } = detector;
  const report = join(place.runDir, 'crash.json');
  rmSync(report, { force: true });
  const env = { DURATION: String(seconds), SEED: String(seed), POINTS: points.join(',') };
  const ended = await run(['test/crash/main.ts'], { place, env, graceMs: crashGraceMs });
  if (!existsSync(report)) return { kind: 'unable', text: `no report; it ended with ${ended.code}:\n${ended.output}` };
  const { violations, kills } = JSON.parse(readFileSync(report, 'utf8')) as {
    violations: string[];
    kills: { total: number };
  };
  const [first] = violations;
  if (first !== undefined) return { kind: 'fails', first: first.slice(0, 200), text: violations.join('\n') };
  return { kind: 'holds', assertions: kills.total };
}

interface Running {
  place: Place;
  env: Record<string, string>;
  /** What it is given to end by itself. */
  graceMs: number;
  /** Aborted when no more of it is needed. */
  enough?: AbortSignal;
  write?: (text: string) => void;
}

/** Runs a program of the copy in a process group of its own; nothing of it is left afterwards. */
export async function run(
  args: readonly string[],
  { place, env, graceMs, enough, write }: Running,
): Promise<{ code: number | null; output: string }> {
  const { copy, runDir, stopping } = place;
  stopping.throwIfAborted();
  const child = spawn(process.execPath, args, {
    cwd: copy,
    // Folders of tests that are cut short are left behind, so they are made where all is thrown away.
    env: { ...process.env, ONLY: undefined, ARMATURE_RUN_DIR: runDir, TMPDIR: join(runDir, 'tmp'), ...env },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString('utf8')).slice(-4_000);
  };
  child.stdout.on('data', (chunk: Buffer) => {
    keep(chunk);
    write?.(chunk.toString('utf8'));
  });
  child.stderr.on('data', keep);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const ends = AbortSignal.any([stopping, AbortSignal.timeout(limitMs), ...(enough ? [enough] : [])]);
  const cut = new Promise<void>((resolve) => {
    if (ends.aborted) resolve();
    ends.addEventListener('abort', () => resolve(), { once: true });
  });
  await Promise.race([ended, cut]);
  if (graceMs > 0 && child.exitCode === null) {
    child.kill('SIGTERM');
    await Promise.race([ended, sleep(graceMs, undefined, { ref: false })]);
  }
  if (child.pid !== undefined) await endGroup(child.pid, ['SIGKILL']);
  const code = await ended;
  stopping.throwIfAborted();
  return { code, output };
}

const escaped = (text: string) => text.replace(/[/\\^$.*+?()[\]{}|]/g, '\\$&');
