import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from '../../scripts/devmesh/state.ts';
import type { SourceFile } from './source-file.ts';

interface Vocabulary {
  /** Words that have no other meaning in the field, with the standard term. One in camel case is a whole identifier. */
  refused: Readonly<Record<string, string>>;
  /** Names that others rely on, such as those of test cards and migrations, each with its reason. */
  exceptions: Readonly<Record<string, string>>;
  /** Folders that the rule does not check yet. */
  foldersNotConverted: readonly string[];
}

export const vocabulary = JSON.parse(
  readFileSync(join(repository, 'test/support/vocabulary.json'), 'utf8'),
) as Vocabulary;

const isChecked = (path: string): boolean => /\.(ts|mjs|proto)$/.test(path) || path === 'Makefile';

/** The words of a line in lower case: those of identifiers too, at capital letters and underscores. */
const wordsOf = (line: string): string =>
  ` ${line
    .replace(/([a-z\d])([A-Z])/g, '$1 $2')
    .replace(/[^A-Za-z]+/g, ' ')
    .toLowerCase()
    .trim()} `;

/** Comments, messages, test titles and identifiers use the field's terms. Returns one problem for each refused word. */
export function wordsAreStandard({ path, text }: SourceFile): string[] {
  if (!isChecked(path) || vocabulary.foldersNotConverted.some((folder) => path.startsWith(folder))) return [];
  return text.split('\n').flatMap((line, index) => {
    const checked = Object.keys(vocabulary.exceptions).reduce((rest, name) => rest.replaceAll(name, ' | '), line);
    const words = wordsOf(checked);
    const says = (word: string) =>
      /[A-Z]/.test(word) ? new RegExp(`\\b${word}\\b`).test(checked) : words.includes(` ${word} `);
    return Object.entries(vocabulary.refused)
      .filter(([word]) => says(word))
      .map(([word, term]) => `line ${index + 1} says "${word}"; write ${term}`);
  });
}
