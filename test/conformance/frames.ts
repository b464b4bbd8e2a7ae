// Frames of HTTP/2 as bytes (RFC 9113, RFC 7541), for connections that do what no HTTP/2 library would.
import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import type { WireCredentials } from './wire.ts';

export const frameTypes = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, continuation: 9 } as const;
export const flags = { endStream: 1, endHeaders: 4 } as const;

export interface Frame {
  type: number;
  flags: number;
  stream: number;
  payload: Buffer;
}

/** The bytes of a frame. */
export function bytesOfFrame({ type, flags = 0, stream = 0, payload = Buffer.alloc(0) }: Partial<Frame>): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type ?? 0, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A block of headers without compression: each is a literal, indexed into the dynamic table where `indexed` says so. */
export function headerBlock(headers: Record<string, string>, { indexed = false } = {}): Buffer {
  const text = (value: string) => Buffer.concat([length(value.length), Buffer.from(value, 'latin1')]);
  return Buffer.concat(
    Object.entries(headers).flatMap(([name, value]) => [Buffer.from([indexed ? 0x40 : 0x00]), text(name), text(value)]),
  );
}

/** A length as an integer with a prefix of 7 bits. */
function length(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** The frames in these bytes, and what is left of an incomplete one. */
export function framesIn(bytes: Buffer): { frames: Frame[]; rest: Buffer } {
  const frames: Frame[] = [];
  let at = 0;
  while (at + 9 <= bytes.length) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    const stream = bytes.readUInt32BE(at + 5);
    frames.push({ type: bytes[at + 3]!, flags: bytes[at + 4]!, stream, payload: bytes.subarray(at + 9, end) });
    at = end;
  }
  return { frames, rest: bytes.subarray(at) };
}

/** A connection that has sent its preface and empty settings. `received` fills with what the server sends. */
export async function rawConnection(address: string, credentials: WireCredentials) {
  const [host, port] = address.split(':');
  const socket: TLSSocket = connect({
    ...{ host, port: Number(port), servername: 'localhost', ALPNProtocols: ['h2'] },
    ...credentials,
  });
  const received: Frame[] = [];
  let rest: Buffer = Buffer.alloc(0);
  socket.on('error', () => undefined);
  socket.on('data', (bytes: Buffer) => {
    const found = framesIn(Buffer.concat([rest, bytes]));
    received.push(...found.frames);
    rest = found.rest;
  });
  await once(socket, 'secureConnect');
  socket.write(
    Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), bytesOfFrame({ type: frameTypes.settings })]),
  );
  return { socket, received };
}
