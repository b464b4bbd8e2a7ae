import { join } from 'node:path';
import type { Progress } from '../../../scripts/devmesh/progress.ts';
import { detect, type Finding, type Place, run } from './detection.ts';
import { type Detector, type Mutation, nameOf } from './mutation.ts';
import type { Scratch } from './scratch.ts';

/** What became of a mutation. "broken": it says nothing about the proofs, because it does not compile or run. */
export interface Verdict {
  readonly mutation: Mutation;
  readonly kind: 'caught' | 'survived' | 'broken';
  /** The proof that failed, survived, or could not run. */
  readonly by: string;
  /** What failed first, by its name. */
  readonly evidence: string;
  /** Of the proof; compiling is not among them. */
  readonly seconds: number;
}

export interface Trial {
  readonly scratch: Scratch;
  readonly place: Place;
  readonly progress: Progress;
}

/** The proofs of these mutations, each once. */
export function detectorsOf(mutations: readonly Mutation[]): Detector[] {
  return [...new Map(mutations.map(({ caughtBy: { detector } }) => [nameOf(detector), detector])).values()];
}

/** Throws unless every proof holds for what is in the copy now: a proof that always fails catches anything. */
export async function mustHold(trial: Trial, detectors: readonly Detector[]): Promise<void> {
  for (const detector of detectors) {
    await trial.progress.step(nameOf(detector), async () => {
      const finding = await detect(detector, trial.place);
      if (finding.kind !== 'holds') throw new Error(`it does not hold without a mistake:\n${finding.text}`);
      return finding.assertions;
    });
  }
}

/** Makes the mistake, runs its proof, and takes it back. */
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

/** What the compiler has against the copy; null where it has nothing. */
async function compileFault(place: Place): Promise<string | null> {
  const compiler = join(place.copy, 'node_modules/typescript/bin/tsc');
  const facts = join(place.runDir, 'types.tsbuildinfo');
  const args = [compiler, '-p', 'tsconfig.json', '--incremental', '--tsBuildInfoFile', facts];
  const { code, output } = await run(args, { place, env: {} });
  return code === 0 ? null : output;
}
