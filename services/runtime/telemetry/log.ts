import { type Logger, pino } from 'pino';

export type { Logger };

/** Names under which secrets and personal data travel; their values never reach a log. */
const secretPaths = [
  'token',
  'password',
  'authorization',
  'payment_method',
  'paymentMethod',
  'contact_email',
  'recipient',
];

/** JSON lines on standard output. Payloads are never logged; these paths are the net under that rule. */
export function createLogger(service: string, level: string): Logger {
  return pino({
    level,
    base: { service, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: { paths: [...secretPaths, ...secretPaths.map((path) => `*.${path}`)], censor: '[redacted]' },
    serializers: { err: plainError },
  });
}

interface PlainError {
  type: string;
  message: string;
  code?: unknown;
  reason?: unknown;
  stack?: string;
  cause?: PlainError;
}

/**
 * What a log may say of an error. Nothing else of it is written: database errors carry the whole statement
 * with its values, and those may be anybody's.
 */
export function plainError(error: unknown): PlainError {
  if (!(error instanceof Error)) return { type: typeof error, message: 'not an error' };
  const { code, reason } = error as { code?: unknown; reason?: unknown };
  return {
    type: error.name,
    message: error.message,
    ...(code === undefined ? {} : { code }),
    ...(reason === undefined ? {} : { reason }),
    ...(error.stack === undefined ? {} : { stack: error.stack }),
    ...(error.cause === undefined ? {} : { cause: plainError(error.cause) }),
  };
}
