import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { keysUnavailable } from '../errors/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import { backoffMs } from '../time/backoff.ts';
import { sleep } from '../time/sleep.ts';
import { type KeySource, maxKeySetBytes, minLookIntervalMs, parseKeys, refreshMs } from './jwks.ts';
import type { LastGoodCopy } from './last-good-copy.ts';
import { workloadOf } from './spiffe.ts';

export interface KeyUrlOptions {
  /** https:// */
  url: string;
  /** Certificates of the authorities that must have issued the server's certificate. */
  caFile: string;
  /** The workload that must serve the URL, such as "service:identity". */
  expectWorkload: string;
  trustDomain: string;
  copy: LastGoodCopy;
  log: Logger;
  /** Milliseconds of a monotonic clock. */
  now?: () => number;
  /** Time between two regular fetches. */
  everyMs?: number;
}

export interface KeyUrl extends KeySource {
  /** Whether there are keys. */
  ready(): boolean;
  /** Why the last attempt to fetch keys failed; empty when it succeeded. */
  problem(): string;
  stop(): Promise<void>;
}

const timeoutMs = 5_000;
const firstRetryMs = 250;
/** Longest pause between attempts while there are no keys at all: every call of a user fails until then. */
const retryMaxWithoutKeysMs = 1_000;
/** Keys that their source has not confirmed for this time are no longer used: they may have been revoked. */
const ageMaxMs = 3_600_000;

/**
 * Provides the public keys of a JWKS that it fetches: at once, then every 20 s, so that revoked keys disappear, and
 * sooner when a token names an unknown key, but for tokens at most once in 5 s. A fetch names the keys that it has
 * (If-None-Match), so that unchanged ones are not sent again. After a failure it retries with growing pauses of up to
 * 5 s, or 1 s while it has no keys. Keys stay valid for an hour without confirmation by their source, and a copy on
 * disk keeps them across a restart. It can start without any keys.
 */
export async function keyUrl(options: KeyUrlOptions): Promise<KeyUrl> {
  const { url, copy, log, now = () => performance.now(), everyMs = refreshMs } = options;
  let keys: ReadonlyMap<string, KeyObject> | null = null;
  let text = '';
  let tag: string | undefined;
  let confirmedAt = Number.NEGATIVE_INFINITY;
  let lookedAt = Number.NEGATIVE_INFINITY;
  let failures = 0;
  let problem = '';
  let looking: Promise<void> | null = null;
  const listeners: (() => void)[] = [];
  const stopping = new AbortController();

  const found = await readCopy(copy, url, log);
  if (found && found.age <= ageMaxMs) ({ keys, text, confirmedAt } = { ...found, confirmedAt: now() - found.age });

  const fetchKeys = async (): Promise<void> => {
    const askedAt = now();
    const fresh = await get(options, tag, stopping.signal);
    const parsed = fresh && parseKeys(fresh.text, url);
    // A response that took long is as old as its request.
    confirmedAt = askedAt;
    if (!fresh || !parsed) return copy.confirm();
    tag = fresh.tag;
    if (fresh.text === text) return copy.confirm();
    keys = parsed;
    text = fresh.text;
    copy.write(Buffer.from(text), '');
    for (const listener of listeners) listener();
  };
  const look = (): Promise<void> => {
    looking ??= (async () => {
      lookedAt = now();
      try {
        await fetchKeys();
        failures = 0;
        problem = '';
      } catch (error) {
        failures += 1;
        problem = describe(error, url);
        if (failures === 1 && !stopping.signal.aborted) log.warn({ err: error, url }, 'no keys fetched; tried again');
      } finally {
        looking = null;
      }
    })();
    return looking;
  };
  const current = (): ReadonlyMap<string, KeyObject> | null => (now() - confirmedAt <= ageMaxMs ? keys : null);
  /** An unknown key id means a bad token only when these keys are the newest. */
  const keyFor = (kid: string): KeyObject | null => {
    const key = current()?.get(kid);
    if (key) return key;
    if (failures > 0 || !current()) throw keysUnavailable();
    return null;
  };

  const loop = (async () => {
    while (!stopping.signal.aborted) {
      await look();
      const maxBackoffMs = current() ? minLookIntervalMs : retryMaxWithoutKeysMs;
      const retry = { initialBackoffMs: firstRetryMs, maxBackoffMs };
      await sleep(failures === 0 ? everyMs * (0.8 + Math.random() * 0.2) : backoffMs(failures, retry), stopping.signal);
    }
  })();
  return {
    find(kid) {
      const key = current()?.get(kid);
      if (key) return key;
      if (!looking && now() - lookedAt < minLookIntervalMs) return rejecting(() => keyFor(kid));
      return look().then(() => keyFor(kid));
    },
    onChange: (listener) => void listeners.push(listener),
    ready: () => current() !== null,
    problem: () => problem,
    async stop() {
      stopping.abort(new Error('the service is stopping'));
      await loop;
      await copy.flushed();
    },
  };
}

/** The message of an error, with the URL, which errors of the system do not name. */
function describe(error: unknown, url: string): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.includes(url) ? message : `${url}: ${message}`;
}

/** Turns an exception into a rejection, as for asynchronous results. */
async function rejecting<T>(find: () => T): Promise<T> {
  return find();
}

/** A copy that cannot be used is treated as missing. */
async function readCopy(copy: LastGoodCopy, url: string, log: Logger) {
  try {
    const found = await copy.read();
    if (!found) return null;
    const text = found.bytes.toString('utf8');
    return { keys: parseKeys(text, `the copy of ${url}`), text, age: found.age };
  } catch (error) {
    log.warn({ err: error }, 'the copy of the keys cannot be used');
    return null;
  }
}

interface Fetched {
  text: string;
  /** The server's name for this content. */
  tag: string | undefined;
}

/**
 * Returns the body of a 200; null when the server says that the content is still the one of `tag`. Anything else is a
 * failure, redirects included: they would name a source that is not configured. The server is identified by its SPIFFE
 * id, whatever host name the URL has.
 */
async function get(options: KeyUrlOptions, tag: string | undefined, stopping: AbortSignal): Promise<Fetched | null> {
  const { url, expectWorkload, trustDomain } = options;
  const ca = await readFile(options.caFile);
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      ca,
      agent: false,
      signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), stopping]),
      headers: {
        accept: 'application/jwk-set+json, application/json',
        ...(tag === undefined ? {} : { 'if-none-match': tag }),
      },
      maxHeaderSize: 8_192,
      minVersion: 'TLSv1.2',
      checkServerIdentity(_host, certificate) {
        const workload = workloadOf(certificate, trustDomain);
        if (workload === expectWorkload) return undefined;
        return new Error(`expected ${expectWorkload} at ${url}, found ${workload ?? 'no workload'}`);
      },
    });
    outgoing.on('error', reject);
    outgoing.once('response', (response) => {
      const fail = (problem: string) => {
        reject(new Error(`${url} ${problem}`));
        outgoing.destroy();
      };
      if (response.statusCode === 304 && tag !== undefined) {
        response.resume();
        response.once('end', () => resolve(null));
        response.on('error', reject);
        return;
      }
      if (response.statusCode !== 200) return fail(`responded ${response.statusCode}`);
      const parts: Buffer[] = [];
      let length = 0;
      response.on('data', (part: Buffer) => {
        length += part.length;
        if (length > maxKeySetBytes) fail(`the response has more than ${maxKeySetBytes} bytes`);
        else parts.push(part);
      });
      response.on('error', reject);
      response.once('end', () => resolve({ text: Buffer.concat(parts).toString('utf8'), tag: response.headers.etag }));
    });
    outgoing.end();
  });
}
