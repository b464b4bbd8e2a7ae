import { type LogLevel, logLevels } from './config.ts';

export type Logger = Record<LogLevel, (message: string, fields?: Readonly<Record<string, unknown>>) => void>;

/**
 * JSON lines on standard output. Callers pass ids, codes and durations only: request bodies and payment
 * methods are never passed to it.
 */
export function createLogger(level: LogLevel): Logger {
  const least = logLevels.indexOf(level);
  const writer = (at: LogLevel) => (message: string, fields?: Readonly<Record<string, unknown>>) => {
    if (logLevels.indexOf(at) < least) return;
    const line = { level: at, time: new Date().toISOString(), service: 'acquirer', pid: process.pid, ...fields };
    process.stdout.write(`${JSON.stringify({ ...line, msg: message })}\n`);
  };
  return { debug: writer('debug'), info: writer('info'), warn: writer('warn'), error: writer('error') };
}

/** The text of anything thrown, with its cause, for a log line. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${describe(error.cause)}`;
}
