import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { git } from '../../checks/archive.ts';
import { repository, runDirectory, writeAtomically } from '../../devmesh/state.ts';
import { knownName } from '../call/nearest.ts';
import type { Invocation } from '../command.ts';
import { jsonOf, printJson } from '../json.ts';
import { writeTable } from '../table.ts';
import { paint, terminalWidth } from '../terminal.ts';
import {
  coldStartRun,
  crashRun,
  keysRun,
  longTier,
  mutantsRun,
  type Outcome,
  type ProgramRun,
  racesRun,
  runProgram,
  testRun,
  testsOf,
} from './programs.ts';

/** One part of the proof. */
export interface ProofPart {
  part: string;
  seed?: number;
  run: ProgramRun;
}

/** What is known of a part so far. */
export interface PartResult extends Partial<Omit<Outcome, 'result'>> {
  part: string;
  result: Outcome['result'] | 'not run';
  seed: number | null;
}

const crashSeconds = 600;
const crashSeeds = [1, 2, 3];
/** Folders of test/verification that are parts of their own, so the part of all other tests leaves them out. */
const ownParts = ['races', 'faults'];

/** All parts, in the order in which they run. */
export const proofParts: readonly ProofPart[] = [
  {
    part: 'tests',
    run: testRun([`--without=${ownParts.join(',')}`], { ...longTier, ARMATURE_STATEMENT_ROWS: '1000000' }),
  },
  { part: 'races', run: racesRun() },
  { part: 'faults', run: testRun(testsOf('faults'), longTier) },
  { part: 'keys', seed: 1, run: keysRun({ keys: 10_000, sends: 5, senders: 48, storm: 150, seed: 1 }) },
  { part: 'cold-start', seed: 1, run: coldStartRun({ rounds: 20, seed: 1 }) },
  ...crashSeeds.map((seed) => ({
    ...{ part: `crash-${seed}`, seed },
    run: crashRun({ duration: crashSeconds, seed }),
  })),
  { part: 'mutants', run: mutantsRun() },
];

/** The parts that --only names: each by its own name, and all crash runs by "crash". */
export function chosenParts(only: readonly string[] | undefined, parts = proofParts): readonly ProofPart[] {
  if (!only || only.length === 0) return parts;
  const names = [...new Set(parts.flatMap(({ part }) => [part.replace(/-\d+$/, ''), part]))];
  for (const name of only) knownName(name, names, `--only ${name}: no such part`);
  return parts.filter(({ part }) => only.some((name) => part === name || part.replace(/-\d+$/, '') === name));
}

/**
 * Runs the chosen parts one after another, also after one has failed, and writes `.run/prove.json` after each. The
 * exit code is 1 where one has failed.
 */
export async function prove(
  only: readonly string[] | undefined,
  invocation: Invocation,
  parts: readonly ProofPart[] = proofParts,
): Promise<void> {
  const chosen = chosenParts(only, parts);
  const started = new Date();
  const results: PartResult[] = chosen.map(({ part, seed }) => ({ part, result: 'not run', seed: seed ?? null }));
  const file = join(runDirectory(), 'prove.json');
  const record = () => {
    const proof = { commit: commit(), started, updated: new Date(), parts: results };
    writeAtomically(file, `${jsonOf(proof)}\n`);
    return proof;
  };
  record();
  for (const [index, { part, run }] of chosen.entries()) {
    console.error(`\n${paint('bold', `${part} (${index + 1} of ${chosen.length})`)}`);
    const outcome = await runProgram(run, invocation);
    results[index] = { ...results[index]!, ...outcome };
    keepReport(part, run);
    record();
    if (outcome.exitCode >= 128) break;
  }
  process.exitCode = results.every(({ result }) => result === 'passed') ? 0 : 1;
  if (invocation.json) printJson(record());
  else for (const line of proofTable(results)) console.log(line);
  if (!invocation.json) console.log(`\nAll of it is in ${file}`);
}

/** Part, result, seconds and seed of each part. */
export function proofTable(results: readonly PartResult[]): string[] {
  const rows = results.map(({ part, result, seconds, seed }) => [
    part,
    result,
    seconds?.toFixed(0) ?? '-',
    seed ?? '-',
  ]);
  const table = [['PART', 'RESULT', 'SECONDS', 'SEED'], ...rows.map((row) => row.map(String))];
  return ['', ...writeTable(table, 'text', terminalWidth())];
}

/** The next part may write a report of the same name, so each report is kept under the name of its part. */
function keepReport(part: string, { report }: ProgramRun): void {
  const written = report && join(runDirectory(), report);
  if (!written || !existsSync(written)) return;
  const kept = join(runDirectory(), 'prove', `${part}.json`);
  mkdirSync(dirname(kept), { recursive: true });
  copyFileSync(written, kept);
}

/** The commit that is proved, marked where the working tree differs from it. Null outside a git checkout. */
function commit(): string | null {
  const head = git(repository, 'rev-parse', 'HEAD');
  if (!head.ok) return null;
  const changed = git(repository, 'status', '--porcelain').output.length > 0;
  return head.output.toString().trim() + (changed ? ' with changes' : '');
}
