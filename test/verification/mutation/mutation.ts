/** A known bug to apply to the product, and the test that must fail because of it. */

/** One replacement: `old` occurs exactly once in the file, and is replaced by `new`. */
export interface Edit {
  /** Path from the root of the repository. */
  readonly file: string;
  readonly old: string;
  readonly new: string;
}

/** The tests of a file that must fail. */
export interface Detector {
  readonly file: string;
  /** Names of tests, the outermost first: only matching tests run. If empty, all tests of the file run. */
  readonly only: readonly string[];
}

export const tests = (file: string, ...only: string[]): Detector => ({ file, only });

/** The crash test at the most important crash points, with all invariants. */
export const crashTest: Detector = tests('test/verification/crash/brief.ts');

/** Name of a detector in reports. Detectors with equal names are the same. */
export const nameOf = ({ file, only }: Detector): string => [file, ...only].join(' > ');

export interface Mutation {
  readonly name: string;
  /** What the bug would do to a customer or to the shop. */
  readonly breaks: string;
  readonly edits: readonly Edit[];
  /**
   * The test that must fail. `says` must match the first failure: a test that fails for another reason, for example
   * because a service does not start, has not caught the mutation.
   */
  readonly caughtBy: { readonly detector: Detector; readonly says: RegExp };
}

/** Applies the edit to the text. Throws unless the old text occurs exactly once and the new text differs. */
export function edited(text: string, { file, old, new: replacement }: Edit): string {
  const parts = text.split(old);
  if (parts.length !== 2) {
    throw new Error(`${file}: the text to change occurs ${parts.length - 1} times, not once:\n${old}`);
  }
  if (old === replacement) throw new Error(`${file}: nothing is changed`);
  return parts.join(replacement);
}

/** The new text of every file that the mutation changes, by path. `read` returns a file of the repository. */
export function mutated({ edits }: Mutation, read: (file: string) => string): Map<string, string> {
  const files = new Map<string, string>();
  for (const edit of edits) files.set(edit.file, edited(files.get(edit.file) ?? read(edit.file), edit));
  return files;
}
