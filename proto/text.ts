// The rule for text in contracts: which characters a string may hold, and that it is not blank.

/** Most values: printable ASCII without blanks at its ends. */
const plain = /^[!-~](?:[ -~]*[!-~])?$/;

/**
 * Control characters, halves of surrogate pairs, noncharacters, separators of lines and paragraphs, and format
 * characters: these are invisible, or change the direction of the text around them. Joiners have a rule of their own.
 */
const forbidden = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{NChar}]|(?![\u200c\u200d])\p{Cf}/u;

/**
 * A joiner (U+200C, U+200D) that joins nothing. Emoji and some scripts need joiners; after letters of the scripts named
 * here they are invisible, and at the end of a text they have no effect.
 */
const loneJoiner =
  /(?<!\p{M}|\p{ExtPict}|\p{EMod}|(?!\p{Script=Latin}|\p{Script=Greek}|\p{Script=Cyrillic}|\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Hangul})\p{L})[\u200c\u200d]|[\u200c\u200d]$/u;

/** Only characters without a glyph. U+2800 is a Braille pattern without dots. */
const blank = /^[\p{Z}\p{Cc}\p{DI}\u2800]*$/u;

const lineBreaks = /[\t\n\r]/g;

/** Whether a text is something other than one line of visible text. The empty string is no text, and passes. */
export const brokenLine = (text: string): boolean => !plain.test(text) && lineProblem(text) !== '';

/** As `brokenLine`, but tabs and line breaks are allowed. */
export const brokenLines = (text: string): boolean => !plain.test(text) && linesProblem(text) !== '';

/** What is wrong with a text of one line; empty when nothing is. */
export const lineProblem = (text: string): string => problemOf(text, text, 'or no part of one line');

/** What is wrong with a text of several lines; empty when nothing is. */
export const linesProblem = (text: string): string =>
  problemOf(text, text.replace(lineBreaks, ' '), 'and no line break');

/** `searched` is the text without the characters that are allowed in addition; `otherwise` describes the others. */
function problemOf(text: string, searched: string, otherwise: string): string {
  if (text === '') return '';
  const found = forbidden.exec(searched) ?? loneJoiner.exec(text);
  if (!found) return blank.test(text) ? 'must not be blank' : '';
  return `must not have the character ${codePointOf(found[0])}: it is invisible ${otherwise}`;
}

const codePointOf = (character: string): string =>
  `U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}`;
