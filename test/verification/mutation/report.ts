import type { Verdict } from './trial.ts';

/** Content of .run/mutants.json: written before the first mutation and after each. */
export interface MutationReport {
  /** The words that chose the mutations; empty for all of them. */
  only: string;
  /** Number of mutations that were chosen; `results` has fewer when the run has ended early. */
  mutations: number;
  caught: number;
  seconds: number;
  results: {
    name: string;
    breaks: string;
    /** The test that ran; "types" where the mutated code does not compile. */
    proof: string;
    caught: boolean;
    kind: Verdict['kind'];
    /** Name of the first failure. */
    evidence: string;
    seconds: number;
  }[];
}

const tenths = (seconds: number) => Math.round(seconds * 10) / 10;

export function reportOf(
  verdicts: readonly Verdict[],
  { only, mutations, seconds }: Pick<MutationReport, 'only' | 'mutations' | 'seconds'>,
): MutationReport {
  return {
    only,
    mutations,
    caught: verdicts.filter(({ kind }) => kind === 'caught').length,
    seconds: tenths(seconds),
    results: verdicts.map(({ mutation: { name, breaks }, kind, by, evidence, seconds }) => ({
      name,
      breaks,
      proof: by,
      caught: kind === 'caught',
      kind,
      evidence,
      seconds: tenths(seconds),
    })),
  };
}
