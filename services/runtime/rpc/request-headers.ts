import { subscribe } from 'node:diagnostics_channel';
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';

/** Longer than any contract allows, and far below the 32-bit limit of grpc-js for milliseconds. */
const ceiling = { header: '86400S', ms: 86_400_000 };
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 0.001, n: 0.000_001 };
/** The format that grpc-js accepts, which is wider than the protocol. */
const timeoutPattern = /(\d{1,8})\s*([HMSmun])/;
const legible = /^[ -~]*$/;

/**
 * grpc-js 1.14 converts grpc-timeout to milliseconds with `| 0`, so "597H" becomes a time in the past and the call
 * fails at once. The header is cut before grpc-js reads it; the contract's own maximum applies later. This can be
 * removed when grpc-js handles large values.
 */
function cutTimeout(headers: IncomingHttpHeaders): void {
  const match = timeoutPattern.exec(String(headers['grpc-timeout'] ?? ''));
  if (match && Number(match[1]) * unitMs[match[2]!]! > ceiling.ms) headers['grpc-timeout'] = ceiling.header;
}

/** grpc-js drops a header that is not ASCII, and a call with an invalid token would count as one without any. */
function keepBrokenToken(headers: IncomingHttpHeaders): void {
  const { authorization } = headers;
  if (authorization !== undefined && !legible.test(authorization)) headers.authorization = 'illegible';
}

const watched = new WeakSet<ServerHttp2Session>();

/**
 * Of two authorization headers node silently keeps the first. A proxy in front may use the second, so a call with two
 * counts as one with an invalid token. Only a session's own event has the raw headers.
 */
function refuseTwoTokens(session: ServerHttp2Session | undefined): void {
  if (!session || watched.has(session)) return;
  watched.add(session);
  session.prependListener('stream', (...[, headers, , raw]: [unknown, IncomingHttpHeaders, unknown, string[]]) => {
    const first = raw.indexOf('authorization');
    if (first >= 0 && raw.indexOf('authorization', first + 2) >= 0) headers.authorization = 'illegible';
  });
}

// grpc-js does not expose its HTTP/2 servers; this channel of node reports a request before grpc-js reads it.
subscribe('http2.server.stream.created', (message) => {
  const { headers, stream } = message as { headers: IncomingHttpHeaders; stream: ServerHttp2Stream };
  cutTimeout(headers);
  keepBrokenToken(headers);
  refuseTwoTokens(stream.session as ServerHttp2Session | undefined);
});

// For such requests of any client it also writes the raw headers to standard error, tokens included.
setLogVerbosity(logVerbosity.NONE);
