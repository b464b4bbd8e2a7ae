import type { MatchExtended, ZxcvbnFactory } from '@zxcvbn-ts/core';

/** What a password has at least: zxcvbn's score of 3. Sign-ins are slowed down, so that so many cannot be tried here. */
const guessesMin = 1e8;
/** Longer ones are judged by their beginning, so that the time is bounded; what repeats only later is not seen. */
const judgedCharacters = 32;
/** Readings of digits and signs as letters. The library's 100 take four times as long and find hardly more. */
const substitutionsMax = 20;

/** Words that the library's dictionary of passwords lacks and that people use here: of the shop, and of other languages. */
const wordsHere = `
armature webshop passphrase superuser login willkommen bienvenue benvenuto bienvenido contrasena wachtwoord motdepasse
passwort fortnite twitter instagram netflix
`
  .trim()
  .split(/\s+/);

/** Rules that a password can break, as the end of a sentence about it. */
const rules = {
  common: 'is or resembles one of the most common passwords',
  personal: 'is made of the name or address of its owner',
  keyboard: 'follows keys that are next to each other',
  repetition: 'repeats the same characters',
  sequence: 'is a sequence of letters or digits',
  date: 'is a date or a year',
  guessable: 'can be guessed in fewer than 100 million attempts',
} as const;

export type Weakness = keyof typeof rules;

/** Says which rule a password breaks. */
export const ruleOf = (weakness: Weakness): string => rules[weakness];

let loading: Promise<ZxcvbnFactory> | null = null;

/** Loaded with the first password that is chosen: the dictionary takes some 30 MB, and most instances need none. */
async function load(): Promise<ZxcvbnFactory> {
  const [{ ZxcvbnFactory }, { adjacencyGraphs, dictionary }] = await Promise.all([
    import('@zxcvbn-ts/core'),
    import('@zxcvbn-ts/language-common'),
  ]);
  return new ZxcvbnFactory({
    dictionary: { ...dictionary, here: wordsHere },
    graphs: adjacencyGraphs,
    l33tMaxSubstitutions: substitutionsMax,
  });
}

/**
 * The rule that a normalized password breaks; null when guessing it takes at least 100 million attempts. `about` is
 * what is known of its owner and guessed first.
 */
export async function weaknessOf(password: string, about: readonly string[] = []): Promise<Weakness | null> {
  loading ??= load();
  const words = about.flatMap((text) => [text, ...text.split(/[^\p{L}\p{N}]+/u)]).filter((word) => word.length > 2);
  const judged = [...password].slice(0, judgedCharacters).join('');
  const { guesses, sequence } = (await loading).check(judged, words);
  if (guesses >= guessesMin) return null;
  const known = sequence.filter(({ pattern }) => pattern !== 'bruteforce' && pattern !== 'separator');
  const longest = known.sort((a, b) => b.token.length - a.token.length)[0];
  return longest ? ruleBroken(longest) : 'guessable';
}

const byPattern: Readonly<Record<string, Weakness>> = {
  dictionary: 'common',
  spatial: 'keyboard',
  repeat: 'repetition',
  sequence: 'sequence',
  wordSequence: 'sequence',
  date: 'date',
  regex: 'date',
};

function ruleBroken(match: MatchExtended): Weakness {
  if (match.pattern === 'dictionary' && match.dictionaryName.startsWith('userInputs')) return 'personal';
  return byPattern[match.pattern] ?? 'guessable';
}
