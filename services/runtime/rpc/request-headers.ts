import { subscribe } from 'node:diagnostics_channel';
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';

/** Longer than any contract allows, and far from the 32 bits that grpc-js counts milliseconds in. */
const ceiling = { header: '86400S', ms: 86_400_000 };
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 0.001, n: 0.000_001 };
/** As grpc-js reads it, which is more than the protocol allows. */
const timeoutPattern = /(\d{1,8})\s*([HMSmun])/;
const legible = /^[ -~]*$/;

/**
 * grpc-js 1.14 turns grpc-timeout into milliseconds with `| 0`, so that "597H" lies in the past and the call of
 * a client that is ready to wait for years fails at once. The header is cut before grpc-js reads it; the
 * contract's own maximum applies later. This can go when grpc-js counts in full.
 */
function cutTimeout(headers: IncomingHttpHeaders): void {
  const match = timeoutPattern.exec(String(headers['grpc-timeout'] ?? ''));
  if (match && Number(match[1]) * unitMs[match[2]!]! > ceiling.ms) headers['grpc-timeout'] = ceiling.header;
}

/** grpc-js drops a header that is not ASCII, and a call with a broken token would count as one without any. */
function keepBrokenToken(headers: IncomingHttpHeaders): void {
  const { authorization } = headers;
  if (authorization !== undefined && !legible.test(authorization)) headers.authorization = 'illegible';
}

const watched = new WeakSet<ServerHttp2Session>();

/**
 * Of two authorization headers node keeps the first and says nothing. Whoever stands before us may go by the second,
 * so a call with two counts as one with a broken token. Only a session's own event shows headers as they came.
 */
function refuseTwoTokens(session: ServerHttp2Session | undefined): void {
  if (!session || watched.has(session)) return;
  watched.add(session);
  session.prependListener('stream', (...[, headers, , raw]: [unknown, IncomingHttpHeaders, unknown, string[]]) => {
    const first = raw.indexOf('authorization');
    if (first >= 0 && raw.indexOf('authorization', first + 2) >= 0) headers.authorization = 'illegible';
  });
}

// grpc-js keeps its HTTP/2 servers to itself; this is where node shows a request before they see it.
subscribe('http2.server.stream.created', (message) => {
  const { headers, stream } = message as { headers: IncomingHttpHeaders; stream: ServerHttp2Stream };
  cutTimeout(headers);
  keepBrokenToken(headers);
  refuseTwoTokens(stream.session as ServerHttp2Session | undefined);
});

// It also writes such headers to standard error as they came, tokens included, for whoever connects.
setLogVerbosity(logVerbosity.NONE);
