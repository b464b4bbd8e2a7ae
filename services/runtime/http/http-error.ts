import { RpcError } from '../errors/errors.ts';

/** A request that is refused: its status, and a code that the response names. Nothing else reaches the client. */
export class HttpError extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;
  constructor(status: number, code: string, options: { headers?: Record<string, string>; cause?: unknown } = {}) {
    super(code, { cause: options.cause });
    this.status = status;
    this.code = code;
    this.headers = options.headers ?? {};
  }
}

const codes: Readonly<Record<number, string>> = {
  400: 'request_invalid',
  404: 'not_found',
  413: 'body_too_large',
  415: 'media_type_unsupported',
};

/** Codes of errors that may not happen again in a moment. */
const temporary: ReadonlySet<string> = new Set(['RESOURCE_EXHAUSTED', 'UNAVAILABLE', 'ABORTED', 'DEADLINE_EXCEEDED']);

/** Errors of Fastify itself: a body that is too large, of an unknown type, shorter than announced; a malformed path. */
const isFastifyError = (error: unknown): error is Error & { statusCode: number } =>
  error instanceof Error && 'statusCode' in error && 'code' in error && String(error.code).startsWith('FST_');

/**
 * Converts an error to the response for the client. Overload, contention, a deadline that has passed and an unreachable
 * dependency are 503 with a Retry-After time. An error that is not known to be caused by the client is 500 and carries its cause for the log.
 */
export function httpErrorOf(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  if (error instanceof RpcError && temporary.has(error.code)) {
    return new HttpError(503, 'temporarily_unavailable', { headers: { 'Retry-After': '2' } });
  }
  if (isFastifyError(error) && error.statusCode < 500) {
    return new HttpError(error.statusCode, codes[error.statusCode] ?? 'request_invalid');
  }
  return new HttpError(500, 'server_error', { cause: error });
}
