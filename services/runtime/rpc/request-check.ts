// What is wrong with the headers of an HTTP/2 request, by the gRPC protocol, before grpc-js reads them.
import type { IncomingHttpHeaders } from 'node:http2';
import { status } from '@grpc/grpc-js';

/** The response to a request that is not one of gRPC: an HTTP status, and a gRPC status for clients that read it. */
export interface Refusal {
  httpStatus: number;
  /** Absent where the client does not speak gRPC. */
  grpcStatus?: number;
  message?: string;
}

/** A response of gRPC, without details. */
export const refusalOf = (grpcStatus: number, message: string): Refusal => ({ httpStatus: 200, grpcStatus, message });

/** Longer than any contract allows, and far below the 32-bit limit of grpc-js for milliseconds. */
const longest = { header: '86400S', ms: 86_400_000 };
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 0.001, n: 0.000_001 };
const timeoutPattern = /^(\d{1,8})([HMSmun])$/;
const contentTypePattern = /^application\/grpc(\+proto)?(\s*;.*)?$/i;
const legible = /^[ -~]*$/;

/**
 * Checks method, content type and timeout as https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md defines
 * them; grpc-js accepts more. Returns null when the request can be served.
 *
 * It also changes two headers for grpc-js: a timeout that it would turn into a time in the past (grpc-js 1.14 converts
 * it to milliseconds with `| 0`), and a token that it would drop, so that the call would count as one without a token.
 */
export function checkRequest(headers: IncomingHttpHeaders, raw: readonly string[]): Refusal | null {
  if (headers[':method'] !== 'POST') return { httpStatus: 405, message: 'a call is a POST request' };
  if (!contentTypePattern.test(String(headers['content-type'] ?? ''))) return { httpStatus: 415 };
  const timeout = headers['grpc-timeout'];
  if (timeout !== undefined) {
    const [, amount, unit] = timeoutPattern.exec(String(timeout)) ?? [];
    if (!amount || !unit) {
      return refusalOf(status.INTERNAL, 'grpc-timeout is not a number of up to 8 digits and a unit');
    }
    if (Number(amount) * unitMs[unit]! > longest.ms) headers['grpc-timeout'] = longest.header;
  }
  const { authorization } = headers;
  // Of two such headers node keeps the first; a proxy in front may use the second.
  if (authorization !== undefined && (!legible.test(authorization) || occursTwice(raw, 'authorization'))) {
    headers.authorization = 'illegible';
  }
  return null;
}

function occursTwice(raw: readonly string[], name: string): boolean {
  const first = raw.indexOf(name);
  return first >= 0 && raw.indexOf(name, first + 2) >= 0;
}

/** What is wrong with the first byte of a message, which says whether it is compressed; null when nothing is. */
export function checkCompression(flag: number, encoding: unknown): string | null {
  if (flag === 0) return null;
  if (flag !== 1) return `the compression flag of a message is 0 or 1, not ${flag}`;
  if (encoding === undefined || encoding === 'identity')
    return 'a message is compressed, and grpc-encoding does not say how';
  return null;
}
