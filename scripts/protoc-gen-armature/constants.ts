/**
 * Values that the generated code creates once when its module loads: regular expressions, sets, limits.
 * Equal values are created once, however many fields use them.
 */
export class Constants {
  readonly #names = new Map<string, string>();

  pattern(source: string): string {
    return this.#name('pattern', `new RegExp(${JSON.stringify(source)}, 'u')`);
  }

  /** Takes the members as source text. */
  set(members: readonly string[]): string {
    return this.#name('values', `new Set<unknown>([${members.join(', ')}])`);
  }

  value(source: string): string {
    return this.#name('limit', source);
  }

  declarations(): string[] {
    return [...this.#names].map(([source, name]) => `const ${name} = ${source};`);
  }

  #name(prefix: string, source: string): string {
    const known = this.#names.get(source);
    if (known) return known;
    const name = `${prefix}${this.#names.size + 1}`;
    this.#names.set(source, name);
    return name;
  }
}
