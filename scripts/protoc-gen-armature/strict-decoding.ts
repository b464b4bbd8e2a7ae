/** What ts-proto writes at the end of the loop that decodes a message, in each of them. */
const lenient = /if \(\(tag & 7\) === 4 \|\| tag === 0\) \{\n\s*break;\n\s*\}/g;
const strict = `if ((tag & 7) === 4 || tag < 8) {
          throw new Error("a field of number 0, or the end of a group that has not begun");
        }`;

/**
 * Has the decoders of a module of ts-proto refuse bytes at which they would stop: what follows them would be ignored, so
 * that two services could read one message differently. Throws when the module decodes messages in another form.
 */
export function refuseStrayTags(source: string): string {
  let found = 0;
  const result = source.replace(lenient, () => {
    found += 1;
    return strict;
  });
  const decoders =
    source.match(/\bdecode\(input: BinaryReader \| Uint8Array, length\?: number\): [\w.]+ \{/g)?.length ?? 0;
  if (found !== decoders) throw new Error(`${found} of ${decoders} decoders have the loop that is known of ts-proto`);
  return result;
}
