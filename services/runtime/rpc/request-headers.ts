import { subscribe } from 'node:diagnostics_channel';
import type { IncomingHttpHeaders } from 'node:http2';
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

// grpc-js keeps its HTTP/2 servers to itself; this is where node shows a request before they see it.
subscribe('http2.server.stream.created', (message) => {
  const { headers } = message as { headers: IncomingHttpHeaders };
  cutTimeout(headers);
  keepBrokenToken(headers);
});

// It also writes such headers to standard error as they came, tokens included, for whoever connects.
setLogVerbosity(logVerbosity.NONE);
