const enumPattern =
  /^export const (\w+) = \{(\s[\s\S]*?),?\s\} as const;\n\nexport type \1 =\s+typeof \1\[\s*keyof typeof \1\s*\];$/gm;
const commentPattern = /\/\*[\s\S]*?\*\//g;
const valuePattern = /(\w+): (-?\d+)/g;

/**
 * Gives the enum objects of a module that ts-proto generated the entries of a TypeScript enum that lead from a number
 * to its name: `OrderState[1]` is "ORDER_STATE_PENDING". ts-proto has no such option. Of two names of one number the
 * first counts.
 */
export function addEnumNames(module: string): string {
  return module.replace(enumPattern, (_, name: string, body: string) => {
    const names = new Map<string, string>();
    for (const [, key = '', number = ''] of body.replace(commentPattern, '').matchAll(valuePattern)) {
      if (!names.has(number)) names.set(number, key);
    }
    const entries = [...names].map(([number, key]) => `  ${/^\d/.test(number) ? number : `"${number}"`}: "${key}",\n`);
    const type = `export type ${name} = Exclude<typeof ${name}[keyof typeof ${name}], string>;`;
    return `export const ${name} = {${body},\n${entries.join('')}} as const;\n\n${type}`;
  });
}
