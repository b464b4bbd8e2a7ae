/** A value as JSON text for programs: 64-bit integers become strings, as in the JSON form of protobuf. */
export function jsonOf(value: unknown, { compact = false } = {}): string {
  return JSON.stringify(value, integersAsText, compact ? undefined : 2);
}

const integersAsText = (_key: string, value: unknown) => (typeof value === 'bigint' ? value.toString() : value);

/** Writes the result of a command for programs to standard output. */
export function printJson(value: unknown, options: { compact?: boolean } = {}): void {
  console.log(jsonOf(value, options));
}
