/** A source file for the rules: its path from the root of the repository, and its text. */
export interface SourceFile {
  path: string;
  text: string;
}

/** The specifiers that a module imports from or exports from. */
export function imports(text: string): string[] {
  const pattern = /(?:\bfrom\s*|\bimport\s*\(?\s*)(['"])([^'"\n]+)\1/g;
  return [...text.matchAll(pattern)].map((match) => match[2]!);
}
