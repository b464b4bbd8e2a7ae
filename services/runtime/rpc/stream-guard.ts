import { constants, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { status } from '@grpc/grpc-js';
import { addressOf, type Connection, type Connections } from './connections.ts';
import { checkCompression, checkRequest, type Refusal, refusalOf } from './request-check.ts';
import { serverLimits } from './server-limits.ts';

type Serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

const exhausted = (message: string): Refusal => refusalOf(status.RESOURCE_EXHAUSTED, message);

const refused: Readonly<Record<'headers' | 'receiving' | 'bytes' | 'streams' | 'late', Refusal>> = {
  headers: exhausted(`request headers exceed ${serverLimits.headerBytesMax} bytes`),
  receiving: exhausted('too many requests that have not arrived'),
  bytes: exhausted('too many bytes of requests that have arrived in part'),
  streams: exhausted(`more than ${serverLimits.standardStreamsPerCertificateMax} streams`),
  late: refusalOf(status.DEADLINE_EXCEEDED, 'the request did not arrive in time'),
};

/**
 * Stands before grpc-js: checks the headers of each request, bounds what requests occupy until they have arrived, and
 * ends streams whose client neither sends nor reads.
 *
 * A request whose path is not of the contracts (health, reflection, channelz) counts as a standard stream.
 */
export function guardStreams(connections: Connections, serve: Serve, isOfContract: (path: string) => boolean) {
  let receivingBytes = 0;
  const open = new Set<ServerHttp2Stream>();
  const sweep = setInterval(() => endUnread(open), serverLimits.sendMs / 2).unref();
  const ofSession = new WeakMap<ServerHttp2Session, Connection>();
  const connectionOf = (session: ServerHttp2Session): Connection | undefined => {
    const known = ofSession.get(session) ?? connections.at(addressOf(session.socket));
    if (known) ofSession.set(session, known);
    return known;
  };

  const receive = (stream: ServerHttp2Stream, { peer }: Connection, encoding: unknown) => {
    let bytes = 0;
    let received = false;
    const request = { end: () => refuse(stream, refused.receiving) };
    const late = setTimeout(() => refuse(stream, refused.late), serverLimits.receiveMs);
    const done = () => {
      if (received) return;
      received = true;
      clearTimeout(late);
      peer.receiving.delete(request);
      peer.receivingBytes -= bytes;
      receivingBytes -= bytes;
    };
    const frame = messageFrame();
    stream.on('data', (chunk: Buffer) => {
      if (received) return;
      const flag = frame.flagIn(chunk);
      const problem = flag === undefined ? null : checkCompression(flag, encoding);
      if (problem) {
        refuse(stream, refusalOf(status.INTERNAL, problem));
        return;
      }
      bytes += chunk.length;
      peer.receivingBytes += chunk.length;
      receivingBytes += chunk.length;
      const { receivingBytesMax, receivingBytesPerCertificateMax } = serverLimits;
      if (peer.receivingBytes > receivingBytesPerCertificateMax || receivingBytes > receivingBytesMax) {
        refuse(stream, refused.bytes);
      }
    });
    stream.once('end', done);
    stream.once('close', done);
    peer.receiving.add(request)?.end();
  };

  const guard = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, raw: string[]): void => {
    stream.on('error', () => {});
    const connection = stream.session && connectionOf(stream.session as ServerHttp2Session);
    if (!connection) {
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    const standard = !isOfContract(headers[':path'] ?? '');
    const refusal =
      checkHeaderBytes(stream, raw) ??
      checkRequest(headers, raw) ??
      (standard && !countStandard(stream, connection) ? refused.streams : null);
    if (refusal) {
      refuse(stream, refusal);
      return;
    }
    open.add(stream);
    stream.once('close', () => open.delete(stream));
    count(stream, connection, connections);
    receive(stream, connection, headers['grpc-encoding']);
    // Its response is complete, and its request is not: the rest of that is of no use.
    stream.once('finish', () => {
      if (!stream.readableEnded) setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR));
    });
    serve(stream, headers);
  };
  return { guard, stop: () => clearInterval(sweep) };
}

/** HTTP/2 applies the limit of headers only after the client has acknowledged the settings that name it. */
function checkHeaderBytes({ session }: ServerHttp2Stream, raw: readonly string[]): Refusal | null {
  if (!session?.pendingSettingsAck) return null;
  let bytes = 0;
  for (const [index, text] of raw.entries()) bytes += text.length + (index % 2 === 0 ? 32 : 0);
  return bytes > serverLimits.headerBytesMax ? refused.headers : null;
}

const unread = new WeakMap<ServerHttp2Stream, number>();

/** Ends the streams whose client has read nothing of what waits for it since the last call. */
function endUnread(open: ReadonlySet<ServerHttp2Stream>): void {
  for (const stream of open) {
    const { writableLength } = stream;
    if (writableLength > 0 && unread.get(stream) === writableLength) stream.close(constants.NGHTTP2_CANCEL);
    else unread.set(stream, writableLength);
  }
}

function count(stream: ServerHttp2Stream, connection: Connection, connections: Connections): void {
  const { session } = stream;
  connection.streams += 1;
  stream.once('close', () => {
    connection.streams -= 1;
    connection.idleSince = performance.now();
    // The streams of a connection that was lost end like this too.
    if (stream.rstCode === constants.NGHTTP2_NO_ERROR || !session || session.closed || session.destroyed) return;
    if (!connections.reset(connection)) return;
    session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    session.destroy();
  });
}

/** Whether the peer may have one more stream outside the contracts. */
function countStandard(stream: ServerHttp2Stream, { peer }: Connection): boolean {
  if (peer.standardStreams >= serverLimits.standardStreamsPerCertificateMax) return false;
  peer.standardStreams += 1;
  stream.once('close', () => {
    peer.standardStreams -= 1;
  });
  return true;
}

/** Refuses a request and ends its stream. */
function refuse(stream: ServerHttp2Stream, { httpStatus, grpcStatus, message }: Refusal): void {
  if (stream.destroyed || stream.closed) return;
  if (!stream.headersSent) {
    const text = message === undefined ? {} : { 'grpc-message': encodeURI(message) };
    const grpc = grpcStatus === undefined ? {} : { 'content-type': 'application/grpc', 'grpc-status': grpcStatus };
    stream.respond({ ':status': httpStatus, ...grpc, ...text }, { endStream: true });
  }
  stream.close(constants.NGHTTP2_NO_ERROR);
}

/** Finds the first byte of each message in the chunks of a request. */
function messageFrame() {
  const header = Buffer.alloc(5);
  let inHeader = 0;
  let left = 0;
  return {
    /** The flag of a message that begins in this chunk; undefined when none does. Of several, the first odd one. */
    flagIn(chunk: Buffer): number | undefined {
      let found: number | undefined;
      for (let at = 0; at < chunk.length; ) {
        if (left > 0) {
          const step = Math.min(left, chunk.length - at);
          left -= step;
          at += step;
          continue;
        }
        header[inHeader++] = chunk[at++]!;
        if (inHeader === 1 && !found) found = header[0];
        if (inHeader === 5) {
          inHeader = 0;
          left = header.readUInt32BE(1);
        }
      }
      return found;
    },
  };
}
