// Decides at generation time whether a pattern is safe on untrusted input. Patterns use RE2's syntax, as in
// protovalidate, but JavaScript matches by backtracking. So only a subset with the same meaning in both is accepted,
// and only if the work of the worst input is bounded.

export class PatternError extends Error {}

/** Backtracking steps; a million takes some milliseconds. */
const costLimit = 1_000_000;

/**
 * Returns the JavaScript source of a pattern, to be compiled with the flag "u". `maxLength` bounds the
 * text it is tried on, in code points. Throws a PatternError that says what is not allowed.
 */
export function translatePattern(pattern: string, maxLength: number): string {
  const reader = new PatternReader(pattern, maxLength);
  const { source, cost, branches } = reader.alternatives();
  if (!reader.done()) throw new PatternError('has a ")" too many');
  const tries = pattern.startsWith('^') && branches === 1 ? 1 : maxLength;
  if (cost * tries > costLimit) {
    throw new PatternError(
      'may take too long on hostile input: bound its repeats as in {0,63}, anchor it with ^, or set max_len beside it',
    );
  }
  try {
    new RegExp(source, 'u');
  } catch (error) {
    throw new PatternError(`is not a regular expression: ${error instanceof Error ? error.message : error}`);
  }
  return source;
}

interface Piece {
  readonly source: string;
  /** How many ways a backtracking matcher may try at most. */
  readonly cost: number;
}

class PatternReader {
  readonly #pattern: string;
  readonly #maxLength: number;
  #at = 0;

  constructor(pattern: string, maxLength: number) {
    this.#pattern = pattern;
    this.#maxLength = maxLength;
  }

  done(): boolean {
    return this.#at === this.#pattern.length;
  }

  alternatives(): Piece & { readonly branches: number } {
    let { source, cost } = this.#sequence();
    let branches = 1;
    while (this.#take('|')) {
      const next = this.#sequence();
      source += `|${next.source}`;
      cost += next.cost;
      branches++;
    }
    return { source, cost, branches };
  }

  #sequence(): Piece {
    let source = '';
    let cost = 1;
    while (!this.done() && !this.#sees('|') && !this.#sees(')')) {
      const piece = this.#repeated(this.#atom());
      source += piece.source;
      cost *= piece.cost;
    }
    return { source, cost };
  }

  #atom(): Piece {
    if (this.#take('(?:')) return this.#group('(?:');
    if (this.#sees('(?'))
      throw new PatternError('uses "(?", of which only "(?:" is supported: no lookaround, names or flags');
    if (this.#take('(')) return this.#group('(?:');
    if (this.#sees('[')) return { source: this.#characterClass(), cost: 1 };
    if (this.#sees('\\')) return { source: this.#escape(), cost: 1 };
    // RE2's dot excludes only the newline; JavaScript's excludes three more line ends.
    if (this.#take('.')) return { source: '[^\\n]', cost: 1 };
    const character = this.#next();
    if ('*+?{}'.includes(character))
      throw new PatternError(`has a "${character}" that repeats nothing; write \\${character}`);
    return { source: character === ']' ? '\\]' : character === '/' ? '\\/' : character, cost: 1 };
  }

  #group(open: string): Piece {
    const { source, cost } = this.alternatives();
    if (!this.#take(')')) throw new PatternError('has a "(" that is not closed');
    return { source: `${open}${source})`, cost };
  }

  /** A repetition of something that can match in several ways multiplies these ways once per turn. */
  #repeated(piece: Piece): Piece {
    const bounds = this.#bounds();
    if (!bounds) return piece;
    const lazy = this.#take('?') ? '?' : '';
    if (this.#bounds()) throw new PatternError('repeats a repeat; put the inner one into a group');
    const max = bounds.max ?? this.#maxLength;
    const ways = piece.cost === 1 ? 1 : piece.cost ** max;
    return { source: piece.source + bounds.source + lazy, cost: ways * Math.max(1, max - bounds.min + 1) };
  }

  #bounds(): { source: string; min: number; max: number | undefined } | undefined {
    if (this.#take('*')) return { source: '*', min: 0, max: undefined };
    if (this.#take('+')) return { source: '+', min: 1, max: undefined };
    if (this.#take('?')) return { source: '?', min: 0, max: 1 };
    const counted = /^\{(\d{1,4})(?:(,)(\d{1,4})?)?\}/.exec(this.#pattern.slice(this.#at));
    if (!counted) return undefined;
    this.#at += counted[0].length;
    const min = Number(counted[1]);
    const max = counted[2] === undefined ? min : counted[3] === undefined ? undefined : Number(counted[3]);
    if (max !== undefined && (max < min || max > 1000))
      throw new PatternError(`has the repeat ${counted[0]}; RE2 allows up to 1000`);
    return { source: counted[0], min, max };
  }

  #characterClass(): string {
    this.#next();
    let source = this.#take('^') ? '[^' : '[';
    for (let first = true; first || !this.#sees(']'); first = false) {
      if (this.done()) throw new PatternError('has a "[" that is not closed');
      if (this.#sees('[:')) throw new PatternError('uses a class such as [:alpha:]; write its characters out');
      if (this.#sees('\\')) source += this.#escape();
      else {
        const character = this.#next();
        // At the first place a "]" stands for itself in RE2.
        source += character === ']' || character === '[' ? `\\${character}` : character;
      }
    }
    this.#next();
    return `${source}]`;
  }

  #escape(): string {
    this.#next();
    if (this.done()) throw new PatternError('ends with a backslash');
    const character = this.#next();
    if (/[dDwWtnrfv]/.test(character)) return `\\${character}`;
    // With the flag "u" JavaScript accepts the backslash only before these.
    if ('^$\\.*+?()[]{}|/-'.includes(character)) return character === '-' ? '\\x2d' : `\\${character}`;
    if (/[!-/:-@[-`{-~]/.test(character)) return character;
    throw new PatternError(`uses \\${character}, which is not supported: no backreferences, \\s, \\b, \\p or \\x`);
  }

  #sees(text: string): boolean {
    return this.#pattern.startsWith(text, this.#at);
  }

  #take(text: string): boolean {
    if (!this.#sees(text)) return false;
    this.#at += text.length;
    return true;
  }

  /** One code point, so that a surrogate pair is not split. */
  #next(): string {
    const character = String.fromCodePoint(this.#pattern.codePointAt(this.#at) ?? 0);
    this.#at += character.length;
    return character;
  }
}
