import { type Logger, pino } from 'pino';

export type { Logger };

/** Fields that contain secrets and personal data; their values are never logged. */
const secretPaths = [
  'token',
  'password',
  'authorization',
  'payment_method',
  'paymentMethod',
  'contact_email',
  'recipient',
];

/** Logs JSON lines to standard output. Payloads are never logged; these paths protect against mistakes. */
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
 * The fields of an error that may be logged. Others are left out: database errors contain the whole statement with its
 * values, which may be personal data.
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
