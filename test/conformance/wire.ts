import { connect, constants, type OutgoingHttpHeaders } from 'node:http2';
import { type Code, decodeStatus, type RpcError } from '@armature/runtime/errors';
import { status } from '@grpc/grpc-js';

/** The response to one call, as received on the wire. */
export interface RawResponse {
  /** The HTTP status; 200 for every gRPC response. */
  http: number;
  /** The gRPC status; empty when the stream ended without one. */
  code: Code | 'OK' | '';
  /** grpc-message, decoded. */
  message: string;
  /** The google.rpc.Status of the trailers. */
  error: RpcError | undefined;
  /** Headers and trailers together. */
  headers: Record<string, string>;
  /** The messages of the reply, without their frames. */
  replies: Buffer[];
  /** Whether the server ended the connection in its handshake, so that the call was not sent. */
  refused: boolean;
  /** The code of RST_STREAM; 0 for a stream that ended normally. */
  reset: number;
}

export interface RawCall {
  /** The request message; its frame is put around it. */
  message?: Uint8Array;
  /** The whole body as it is, in place of a message. */
  body?: Uint8Array;
  headers?: OutgoingHttpHeaders;
  /** Ends the call from this side. */
  signal?: AbortSignal;
  /** Ends the call from this side after as many messages, for streams that go on for ever. */
  repliesMax?: number;
}

/** One HTTP/2 connection that sends what no correct client would, and returns everything that it receives. */
export interface Wire {
  call(path: string, request?: RawCall): Promise<RawResponse>;
  close(): void;
}

export interface WireCredentials {
  cert?: string | Buffer;
  key?: string | Buffer;
  ca: string | Buffer;
}

const notSent: RawResponse = {
  ...{ http: 0, code: '', message: '', error: undefined, headers: {}, replies: [], reset: 0, refused: true },
};

/** Fails a test instead of hanging it if a server does not respond. */
const responseTimeoutMs = 15_000;

/** Connects. A server that refuses the certificate leaves a wire whose calls are `refused`. */
export async function openWire(address: string, credentials: WireCredentials): Promise<Wire> {
  // Node's types do not know this option yet; it allows sending a single-value header twice.
  const careless = { strictSingleValueFields: false };
  const session = connect(`https://${address}`, { ...careless, ...credentials, servername: 'localhost' });
  // Later errors end the calls in progress, which report them.
  session.on('error', () => {});
  // In TLS 1.3 a client is connected before the server has seen its certificate. Its first frame says that it has.
  const served = await new Promise<boolean>((resolve) => {
    session.once('remoteSettings', () => resolve(true));
    session.once('close', () => resolve(false));
  });
  if (!served) return { call: async () => notSent, close: () => undefined };
  return {
    call: (path, request = {}) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc+proto',
        te: 'trailers',
        ...request.headers,
      });
      request.signal?.addEventListener('abort', () => stream.close(constants.NGHTTP2_CANCEL), { once: true });
      stream.end(request.body ?? frame(request.message ?? new Uint8Array()));
      return responseOf(stream, request.repliesMax);
    },
    close: () => session.close(),
  };
}

type RequestStream = ReturnType<ReturnType<typeof connect>['request']>;

function responseOf(stream: RequestStream, repliesMax = Number.POSITIVE_INFINITY): Promise<RawResponse> {
  return new Promise((resolve, reject) => {
    const headers: Record<string, string> = {};
    const chunks: Buffer[] = [];
    const note = (more: object) => {
      for (const [name, value] of Object.entries(more)) headers[name] = String(value);
    };
    const timer = setTimeout(() => reject(new Error(`no response within ${responseTimeoutMs} ms`)), responseTimeoutMs);
    stream.on('response', note);
    stream.on('trailers', note);
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      if (unframe(Buffer.concat(chunks)).length >= repliesMax) stream.close(constants.NGHTTP2_CANCEL);
    });
    // A reset is part of the response; its code is read when the stream has closed.
    stream.on('error', () => {});
    stream.on('close', () => {
      clearTimeout(timer);
      const said = headers['grpc-status'];
      const details = headers['grpc-status-details-bin'];
      resolve({
        http: Number(headers[':status'] ?? 0),
        code: said === undefined ? '' : (status[Number(said)] as Code | 'OK'),
        message: decodeURIComponent(headers['grpc-message'] ?? ''),
        error: details === undefined ? undefined : decodeStatus(Buffer.from(details, 'base64')),
        headers,
        replies: unframe(Buffer.concat(chunks)),
        reset: stream.rstCode ?? 0,
        refused: false,
      });
    });
  });
}

/** A message as it travels: a flag for compression, its length, its bytes. */
export function frame(message: Uint8Array, { compressed = 0, length = message.length } = {}): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(compressed, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
}

function unframe(bytes: Buffer): Buffer[] {
  const messages: Buffer[] = [];
  for (let at = 0; at + 5 <= bytes.length; ) {
    const end = at + 5 + bytes.readUInt32BE(at + 1);
    if (end > bytes.length) break;
    messages.push(bytes.subarray(at + 5, end));
    at = end;
  }
  return messages;
}
