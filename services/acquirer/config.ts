import { resolve } from 'node:path';

/** Everything the acquirer can be told from outside. */
export type Config = {
  host: string;
  port: number;
  dataDirectory: string;
  /** How long card_slow and card_webhook take to be decided. */
  slowMs: number;
  /** Where to tell others our address once we serve, or undefined to tell nobody. */
  stateFile: string | undefined;
  logLevel: LogLevel;
};

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Stays below the socket's idle limit, so that a slow answer is late rather than lost. */
const SLOW_LIMIT_MS = 20_000;

/** Every problem of the environment at once, one line each, so that nobody fixes them one start at a time. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`the configuration has ${problems.length} problem(s): ${problems.join('; ')}`);
    this.problems = problems;
  }
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads the configuration from the environment; the only place of this service that does. Throws ConfigError. */
export function readConfig(environment: Environment = process.env): Config {
  const problems: string[] = [];
  const config = {
    ...readAddress(environment, problems),
    dataDirectory: readDataDirectory(environment, problems),
    slowMs: readSlowMs(environment, problems),
    stateFile: environment.ARMATURE_STATE_FILE || undefined,
    logLevel: readLogLevel(environment, problems),
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

function readAddress(environment: Environment, problems: string[]): { host: string; port: number } {
  const text = environment.ARMATURE_ACQUIRER_ADDRESS || '127.0.0.1:0';
  const match = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (!match || port > 65_535) {
    problems.push(`ARMATURE_ACQUIRER_ADDRESS must be host:port with a port from 0 to 65535, not "${text}"`);
    return { host: '', port: 0 };
  }
  return { host: match[1]!.replace(/^\[|\]$/g, ''), port };
}

function readDataDirectory(environment: Environment, problems: string[]): string {
  const text = environment.ARMATURE_ACQUIRER_DATA_DIR ?? '';
  if (text === '') problems.push('ARMATURE_ACQUIRER_DATA_DIR must name the folder that holds the log');
  return resolve(text);
}

function readSlowMs(environment: Environment, problems: string[]): number {
  const text = environment.ARMATURE_ACQUIRER_SLOW_MS || '1500';
  const value = Number(text);
  if (!/^\d{1,6}$/.test(text) || value > SLOW_LIMIT_MS) {
    problems.push(`ARMATURE_ACQUIRER_SLOW_MS must be a whole number from 0 to ${SLOW_LIMIT_MS}, not "${text}"`);
  }
  return value;
}

function readLogLevel(environment: Environment, problems: string[]): LogLevel {
  const text = environment.ARMATURE_LOG_LEVEL || 'info';
  const level = logLevels.find((known) => known === text);
  if (!level) problems.push(`ARMATURE_LOG_LEVEL must be one of ${logLevels.join(', ')}, not "${text}"`);
  return level ?? 'info';
}
