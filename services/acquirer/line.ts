import { crc32 } from 'node:zlib';

/** The last member of every line: a checksum of all bytes before it. */
const checksumPrefix = Buffer.from(',"checksum":"');
const SUFFIX_BYTES = checksumPrefix.length + 8 + '"}'.length;

const checksumOf = (bytes: Uint8Array | string) => crc32(bytes).toString(16).padStart(8, '0');

/** One line of the log: plain JSON that any tool can read, ending in its checksum and a line feed. */
export function encodeLine(record: object): Buffer {
  const text = JSON.stringify(record).slice(0, -1);
  return Buffer.from(`${text},"checksum":"${checksumOf(text)}"}\n`);
}

/** The record of a line without its line feed, or undefined when the bytes are not what encodeLine wrote. */
export function decodeLine(line: Buffer): object | undefined {
  const bodyEnd = line.length - SUFFIX_BYTES;
  if (bodyEnd < 1) return undefined;
  const body = line.subarray(0, bodyEnd);
  const suffix = line.subarray(bodyEnd).toString('latin1');
  if (suffix !== `,"checksum":"${checksumOf(body)}"}`) return undefined;
  return JSON.parse(`${body.toString('utf8')}}`);
}
