import { join } from 'node:path';
import type { Progress } from '../../../scripts/devmesh/progress.ts';
import { detect, type Finding, type Place, run } from './detection.ts';
import { type Detector, type Mutation, nameOf } from './mutation.ts';
import type { Scratch } from './scratch.ts';

/**
 * Result of a mutation. "broken": the mutated code does not compile or the test cannot run, so it says nothing about
 * the test.
 */
export interface Verdict {
  readonly mutation: Mutation;
  readonly kind: 'caught' | 'survived' | 'broken';
  /** The test that failed, passed, or could not run. */
  readonly by: string;
  /** Name of the first failure. */
  readonly evidence: string;
  /** Duration of the test, without compiling. */
  readonly seconds: number;
}

export interface Trial {
  readonly scratch: Scratch;
  readonly place: Place;
  readonly progress: Progress;
}

/** The detectors of these mutations, without duplicates. */
export function detectorsOf(mutations: readonly Mutation[]): Detector[] {
  return [...new Map(mutations.map(({ caughtBy: { detector } }) => [nameOf(detector), detector])).values()];
}

/** Throws unless every test passes on the present copy: a test that always fails catches everything. */
export async function mustHold(trial: Trial, detectors: readonly Detector[]): Promise<void> {
  for (const detector of detectors) {
    await trial.progress.step(nameOf(detector), async () => {
      const finding = await detect(detector, trial.place);
      if (finding.kind !== 'holds') throw new Error(`the test fails without a mutation:\n${finding.text}`);
      return finding.assertions;
    });
  }
}

/** Applies the mutation, runs its test, and restores the copy. */
export async function tryMutation(trial: Trial, mutation: Mutation): Promise<Verdict> {
  let since = performance.now();
  const verdict = (kind: Verdict['kind'], by: string, evidence: string): Verdict => {
    return { mutation, kind, by, evidence, seconds: (performance.now() - since) / 1000 };
  };
  trial.scratch.mutate(mutation);
  try {
    const fault = await compileFault(trial.place);
    if (fault) return verdict('broken', 'types', fault);
    since = performance.now();
    const { detector, says } = mutation.caughtBy;
    const finding = await detect(detector, trial.place);
    if (finding.kind === 'holds') return verdict('survived', nameOf(detector), '');
    return caught(finding, says)
      ? verdict('caught', nameOf(detector), finding.first)
      : verdict('broken', nameOf(detector), finding.text);
  } finally {
    trial.scratch.restore();
  }
}

function caught(finding: Finding, says: RegExp): finding is Extract<Finding, { kind: 'fails' }> {
  return finding.kind === 'fails' && says.test(finding.text);
}

/** Errors of the compiler for the copy; null if there are none. */
async function compileFault(place: Place): Promise<string | null> {
  const compiler = join(place.copy, 'node_modules/typescript/bin/tsc');
  const facts = join(place.runDir, 'types.tsbuildinfo');
  const args = [compiler, '-p', 'tsconfig.json', '--incremental', '--tsBuildInfoFile', facts];
  const { code, output } = await run(args, { place, env: {} });
  return code === 0 ? null : output;
}
