// Figures of documents: durations, sizes and counts, each with its place in the code.

/** One row of the list. */
export interface Figure {
  /** Words of the document, with the figures in braces. */
  words: string;
  /** Undefined where the figures do not come from code. */
  source: { file: string; code: string } | undefined;
}

/** Reads the list: documents at the beginning of a line, their figures below, each by "words <- file <- code". */
export function readFigures(text: string): Map<string, Figure[]> {
  const list = new Map<string, Figure[]>();
  let rows: Figure[] = [];
  for (const line of text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'))) {
    if (!line.startsWith(' ')) {
      rows = [];
      list.set(line.trim(), rows);
      continue;
    }
    const [words = '', file = '', code] = line.trim().split(' <- ');
    const fromCode = !file.startsWith('not from code');
    if (fromCode && !code) throw new Error(`docs.figures.txt: "${line.trim()}" names no code`);
    rows.push({ words, source: fromCode ? { file, code: code! } : undefined });
  }
  return list;
}

/** A list without one of its rows. */
export const withoutRow = (rows: readonly Figure[], index: number): Figure[] => rows.filter((_, one) => one !== index);

const numbers = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'];
const numberWords: Record<string, number> = {
  ...Object.fromEntries(numbers.map((word, value) => [word, value])),
  ...{ a: 1, an: 1, 'half a': 0.5, twelve: 12, twenty: 20, thirty: 30 },
};
const secondMs = 1_000;
const units: [RegExp, number][] = [
  [/^ms$/, 1],
  [/^(s|seconds?)$/, secondMs],
  [/^(min|minutes?)$/, 60 * secondMs],
  [/^(h|hours?)$/, 3_600 * secondMs],
  [/^days?$/, 86_400 * secondMs],
  [/^KiB$/, 1_024],
  [/^(MiB|Mi characters)$/, 1_024 * 1_024],
  [/^characters$/, 1],
  [/^%$/, 0.01],
  [/^$/, 1],
];
const number = `\\d[\\d,]*(?:\\.\\d+)?|\\b(?:${Object.keys(numberWords)
  .sort((a, b) => b.length - a.length)
  .join('|')})`;
const unit = 'ms|s|min|h|days?|hours?|minutes?|seconds?|KiB|MiB|Mi characters|characters|%';
const withUnit = new RegExp(`(?:${number})[ -](?:${unit})(?![\\w-])`, 'gi');

/** The value of a figure: milliseconds of a duration, bytes of a size, a number of anything else. */
export function figureValue(text: string): number {
  const power = /^(\d+)\^(\d+)$/.exec(text);
  if (power) return Number(power[1]) ** Number(power[2]);
  const [, amount = '', name = ''] = /^(half a|[\d.,]+|\w+)(?: (.+))?$/i.exec(text) ?? [];
  const factor = units.find(([pattern]) => pattern.test(name))?.[1] ?? Number.NaN;
  const value = numberWords[amount.toLowerCase()] ?? Number(amount.replaceAll(',', ''));
  return Number((value * factor).toPrecision(12));
}

/** The durations and sizes of a text, and where they stand. */
export function figuresIn(text: string): { text: string; at: number }[] {
  const found = [...text.matchAll(withUnit)].map((match) => ({ text: match[0], at: match.index }));
  const [limits] = text.matchAll(/^## Limits$[\s\S]*?(?=^## |$(?![\s\S]))/gm);
  if (!limits) return found;
  // In the table of limits every number of the second column is a figure.
  for (const row of limits[0].matchAll(/^(\| [^|]+ \| )([^|]+) \|/gm)) {
    if (row[2] === 'value' || row[2] === '---') continue;
    for (const one of row[2]!.matchAll(/\d[\d,.]*\d|\d/g)) {
      found.push({ text: one[0], at: limits.index + row.index + row[1]!.length + one.index });
    }
  }
  return found;
}

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
/** A pattern of a text whose blanks may be line breaks. */
const loosely = (text: string) => escaped(text).replace(/\s+/g, '\\s+');
const parts = (text: string) => [...text.matchAll(/\{([^{}]*\d[^{}]*|[a-z ]+)\}/gi)];
const bare = (text: string) => text.replace(/\{([^{}]*\d[^{}]*|[a-z ]+)\}/gi, '$1');

/** What is wrong with the figures of a document. `codeOf` reads a file; undefined where there is none. */
export function figureProblems(
  path: string,
  prose: string,
  rows: readonly Figure[],
  codeOf: (file: string) => string | undefined,
): string[] {
  const problems: string[] = [];
  const covered: [from: number, to: number][] = [];
  for (const { words, source } of rows) {
    const places = [...prose.matchAll(new RegExp(loosely(bare(words)), 'g'))];
    const place = places[0];
    if (!place || places.length > 1) {
      problems.push(`${path}: there ${place ? 'is more than one' : 'is no'} "${bare(words)}"`);
      continue;
    }
    covered.push(...placesOf(prose, words, place.index));
    const wrong = source && sourceProblem(words, source.code, codeOf(source.file));
    if (wrong) problems.push(`${path}: "${bare(words)}": ${source.file} ${wrong}`);
  }
  for (const { text, at } of figuresIn(prose)) {
    if (covered.some(([from, to]) => at >= from && at < to)) continue;
    const line = prose.slice(0, at).split('\n').length;
    problems.push(
      `${path}:${line}: \`${text}\` in "${around(prose, at)}" is not in test/docs.figures.txt; add where it comes from`,
    );
  }
  return problems;
}

/** Where the figures of some words stand; words without figures stand for their paragraph. */
function placesOf(prose: string, words: string, at: number): [number, number][] {
  const figures = parts(words);
  if (figures.length === 0) {
    const end = prose.indexOf('\n\n', at);
    return [[prose.lastIndexOf('\n\n', at), end < 0 ? prose.length : end]];
  }
  return figures.map(({ index, 1: figure }) => {
    const before = new RegExp(`^${loosely(bare(words.slice(0, index)))}`).exec(prose.slice(at))![0].length;
    return [at + before, at + before + figure!.length];
  });
}

const around = (prose: string, at: number) => prose.slice(Math.max(0, at - 25), at + 20).replace(/\s+/g, ' ');

/** What is wrong with the code of a row: it is not there, or says something else. */
function sourceProblem(words: string, source: string, text: string | undefined): string | undefined {
  if (text === undefined) return 'does not exist';
  const [, code = source, unit] = /^(.*) \[(\w+)\]$/.exec(source) ?? [];
  const pattern = bare(code)
    .split('…')
    .map((part) => loosely(part.trim()))
    .join('[\\s\\S]{0,400}?');
  if (!new RegExp(pattern).test(text)) return `has no "${bare(code)}"`;
  const [figures, values] = [parts(words).map(([, one]) => one!), parts(code)];
  if (figures.length !== values.length && figures.length !== 1) {
    return `has ${values.length} values for ${figures.length} figures`;
  }
  const found = values.map(({ index, 0: whole, 1: value }) =>
    codeValue(code.slice(0, index), value!, code.slice(index + whole.length), unit),
  );
  const wanted = figures.map(figureValue);
  const compared = figures.length === 1 ? [found.reduce((product, one) => product * one, 1)] : found;
  const at = wanted.findIndex((one, index) => one !== compared[index]);
  return at < 0
    ? undefined
    : `says something else: ${figures[at]} is not ${parts(code)
        .map(([, one]) => one)
        .join(' × ')}`;
}

const codeUnits: [RegExp, number][] = [
  [/(?:Ms|_MS)$/, 1],
  [/(?:[a-z]S|_S|Seconds|_timeout)$/, secondMs],
  [/(?:Hours|_HOURS)$/, 3_600 * secondMs],
  [/(?:Days|_DAYS|^days|^DEAD|^SKIPPED)$/, 86_400 * secondMs],
];
const unitOf = (name: string) => codeUnits.find(([pattern]) => pattern.test(name))?.[1];

/** The value of an expression such as 15 * 60_000, in the unit that its name, the word after it or `unit` says. */
function codeValue(before: string, expression: string, after: string, unit: string | undefined): number {
  const product = expression.split('*').reduce((value, part) => value * Number(part.replaceAll('_', '').trim()), 1);
  const word = unit ?? /^ (second|minute|hour|day)\b/.exec(after)?.[1];
  if (word) return product * units.find(([pattern]) => pattern.test(word))![1];
  const names = [...before.matchAll(/\w+/g)].map(([name]) => name);
  // The value of a variable of the environment stands at some distance from its name.
  const isVariable = names.at(-1) === 'fallback' || names.at(-1) === 'valid';
  return product * ((isVariable ? names.map(unitOf).findLast(Boolean) : unitOf(names.at(-1) ?? '')) ?? 1);
}
