/** A mistake that somebody could make in the product, and the proof that is to fail because of it. */

/** One place that is changed: text that occurs exactly once in the file, and what takes its place. */
export interface Edit {
  /** From the root of the repository. */
  readonly file: string;
  readonly old: string;
  readonly new: string;
}

/** What can fail: tests of a file. */
export interface Detector {
  readonly file: string;
  /** Names of tests, the outermost first: only those that contain them run. All of the file where there are none. */
  readonly only: readonly string[];
}

export const tests = (file: string, ...only: string[]): Detector => ({ file, only });

/** The shop killed at the points that matter most, and held to its invariants and to what its customers were told. */
export const underFire: Detector = tests('test/verification/crash/brief.ts');

/** How a detector is called in reports; two that are called alike are the same. */
export const nameOf = ({ file, only }: Detector): string => [file, ...only].join(' > ');

export interface Mutation {
  readonly name: string;
  /** What a shop with it would do to somebody. */
  readonly breaks: string;
  readonly edits: readonly Edit[];
  /**
   * The proof that is to fail. `says` is found in the first thing that fails: a proof that fails otherwise, because a
   * service does not start for example, has caught nothing.
   */
  readonly caughtBy: { readonly detector: Detector; readonly says: RegExp };
}

/** The text with the edit in it. Throws unless the old text occurs exactly once and the new one differs. */
export function edited(text: string, { file, old, new: replacement }: Edit): string {
  const parts = text.split(old);
  if (parts.length !== 2) {
    throw new Error(`${file}: the text to change occurs ${parts.length - 1} times, not once:\n${old}`);
  }
  if (old === replacement) throw new Error(`${file}: nothing is changed`);
  return parts.join(replacement);
}

/** The whole text of every file that the mutation changes, by path. `read` answers a file as it is in the repository. */
export function mutated({ edits }: Mutation, read: (file: string) => string): Map<string, string> {
  const files = new Map<string, string>();
  for (const edit of edits) files.set(edit.file, edited(files.get(edit.file) ?? read(edit.file), edit));
  return files;
}
