import { resolve } from 'node:path';

/** The configuration of the acquirer. */
export type Config = {
  host: string;
  port: number;
  dataDirectory: string;
  /** How long card_slow and card_webhook take to be decided. */
  slowMs: number;
  /** How long a hold lasts that is neither captured nor voided. */
  holdMs: number;
  /** How long a key keeps its operation. */
  keyRetentionMs: number;
  /** The receiver of webhooks; undefined: no webhooks are sent. */
  webhooks: WebhookConfig | undefined;
  /** The file that gets the address once the server listens; undefined: no file. */
  stateFile: string | undefined;
  logLevel: LogLevel;
};

export type WebhookConfig = {
  url: string;
  /** One, or the new and the old one while it is being replaced: every webhook is signed with each. */
  secrets: string[];
  /** CA bundle that verifies the receiver, PEM; undefined: public authorities. */
  caFile: string | undefined;
  initialBackoffMs: number;
  maxBackoffMs: number;
  maxAttempts: number;
  /** Delay of the event of card_webhook_late after its settlement. */
  lateMs: number;
  /** Delay of the event of an operation whose outcome was already in the response. */
  noticeMs: number;
};

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Below the socket's idle limit, so that a slow response is late but not lost. */
const SLOW_LIMIT_MS = 20_000;
const SECRET_LENGTH_LEAST = 32;

/** Lists all problems of the environment, so that one start shows every one of them. */
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
    slowMs: readNumber(environment, problems, 'ARMATURE_ACQUIRER_SLOW_MS', {
      least: 0,
      most: SLOW_LIMIT_MS,
      or: 1_500,
    }),
    holdMs: readNumber(environment, problems, 'ARMATURE_ACQUIRER_HOLD_MS', {
      least: 50,
      most: 999_999_999,
      or: 7 * 24 * 3_600_000,
    }),
    keyRetentionMs: readNumber(environment, problems, 'ARMATURE_ACQUIRER_KEY_RETENTION_MS', {
      least: 50,
      most: 999_999_999,
      or: 3 * 24 * 3_600_000,
    }),
    webhooks: readWebhooks(environment, problems),
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

type Bounds = { least: number; most: number; or: number };

function readNumber(environment: Environment, problems: string[], name: string, { least, most, or }: Bounds): number {
  const text = environment[name] || String(or);
  const value = Number(text);
  if (!/^\d{1,9}$/.test(text) || value < least || value > most) {
    problems.push(`${name} must be a whole number from ${least} to ${most}, not "${text}"`);
  }
  return value;
}

function readWebhooks(environment: Environment, problems: string[]): WebhookConfig | undefined {
  const url = environment.ARMATURE_ACQUIRER_WEBHOOK_URL;
  if (!url) return undefined;
  if (!/^https?:/.test(url) || !URL.canParse(url)) {
    problems.push('ARMATURE_ACQUIRER_WEBHOOK_URL must be an http or https URL');
  }
  const secrets = (environment.ARMATURE_ACQUIRER_WEBHOOK_SECRET ?? '').split(',');
  if (secrets.length > 2 || secrets.some((secret) => secret.length < SECRET_LENGTH_LEAST)) {
    problems.push(
      `ARMATURE_ACQUIRER_WEBHOOK_SECRET must be one or two secrets of at least ${SECRET_LENGTH_LEAST} characters, separated by a comma`,
    );
  }
  const number = (name: string, bounds: Bounds) => readNumber(environment, problems, name, bounds);
  return {
    url,
    secrets,
    caFile: environment.ARMATURE_ACQUIRER_WEBHOOK_CA_FILE || undefined,
    initialBackoffMs: number('ARMATURE_ACQUIRER_WEBHOOK_RETRY_FIRST_MS', { least: 1, most: 60_000, or: 500 }),
    maxBackoffMs: number('ARMATURE_ACQUIRER_WEBHOOK_RETRY_MOST_MS', { least: 1, most: 3_600_000, or: 60_000 }),
    maxAttempts: number('ARMATURE_ACQUIRER_WEBHOOK_ATTEMPTS_MAX', { least: 1, most: 1_000, or: 100 }),
    lateMs: number('ARMATURE_ACQUIRER_WEBHOOK_LATE_MS', { least: 0, most: 600_000, or: 20_000 }),
    noticeMs: number('ARMATURE_ACQUIRER_WEBHOOK_NOTICE_MS', { least: 0, most: 600_000, or: 2_000 }),
  };
}

function readLogLevel(environment: Environment, problems: string[]): LogLevel {
  const text = environment.ARMATURE_LOG_LEVEL || 'info';
  const level = logLevels.find((known) => known === text);
  if (!level) problems.push(`ARMATURE_LOG_LEVEL must be one of ${logLevels.join(', ')}, not "${text}"`);
  return level ?? 'info';
}
