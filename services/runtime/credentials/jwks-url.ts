import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { keysUnavailable } from '../errors/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import { backoffMs } from '../time/backoff.ts';
import { sleep } from '../time/sleep.ts';
import { type KeySource, maxKeySetBytes, minLookIntervalMs, parseKeys } from './jwks.ts';
import type { LastGoodCopy } from './last-good-copy.ts';
import { workloadOf } from './spiffe.ts';

export interface KeyUrlOptions {
  /** https:// */
  url: string;
  /** Certificates of the authorities that the server's certificate must come from. */
  caFile: string;
  /** The workload that must be on the other end, such as "service:identity". */
  expectWorkload: string;
  trustDomain: string;
  copy: LastGoodCopy;
  log: Logger;
  /** Milliseconds of a clock that is never set. */
  now?: () => number;
}

export interface KeyUrl extends KeySource {
  /** Whether there are keys. */
  ready(): boolean;
  stop(): Promise<void>;
}

const refreshMs = 5 * 60_000;
const timeoutMs = 5_000;
const firstRetryMs = 250;
/** Keys that nobody confirmed for so long are no longer taken to be good. */
const ageMaxMs = 24 * 3_600_000;

/**
 * Holds the public keys of a JWKS that is fetched: at once, then every 5 minutes, so that keys that were withdrawn
 * go, and sooner when a token names a key it does not know, but for tokens never twice in 30 s. While fetching fails
 * it is tried again after growing pauses of up to 30 s. Keys stay good for 24 h without a word of their source, and
 * outlive a restart by their copy. Starts without any.
 */
export async function keyUrl(options: KeyUrlOptions): Promise<KeyUrl> {
  const { url, copy, log, now = () => performance.now() } = options;
  let keys: ReadonlyMap<string, KeyObject> | null = null;
  let text = '';
  let confirmedAt = Number.NEGATIVE_INFINITY;
  let lookedAt = Number.NEGATIVE_INFINITY;
  let failures = 0;
  let looking: Promise<void> | null = null;
  const listeners: (() => void)[] = [];
  const stopping = new AbortController();

  const found = await readCopy(copy, url, log);
  if (found && found.age <= ageMaxMs) ({ keys, text, confirmedAt } = { ...found, confirmedAt: now() - found.age });

  const fetchKeys = async (): Promise<void> => {
    const fresh = await get(options, stopping.signal);
    const parsed = parseKeys(fresh, url);
    confirmedAt = now();
    if (fresh === text) return copy.confirm();
    keys = parsed;
    text = fresh;
    copy.write(Buffer.from(fresh), '');
    for (const listener of listeners) listener();
  };
  const look = (): Promise<void> => {
    looking ??= (async () => {
      lookedAt = now();
      try {
        await fetchKeys();
        failures = 0;
      } catch (error) {
        failures += 1;
        if (failures === 1 && !stopping.signal.aborted) log.warn({ err: error, url }, 'no keys fetched; tried again');
      } finally {
        looking = null;
      }
    })();
    return looking;
  };
  const current = (): ReadonlyMap<string, KeyObject> | null => (now() - confirmedAt <= ageMaxMs ? keys : null);
  /** What an unknown key means depends on whether these keys are the newest. */
  const answer = (kid: string): KeyObject | null => {
    const key = current()?.get(kid);
    if (key) return key;
    if (failures > 0 || !current()) throw keysUnavailable();
    return null;
  };

  const loop = (async () => {
    while (!stopping.signal.aborted) {
      await look();
      const retry = { initialBackoffMs: firstRetryMs, maxBackoffMs: minLookIntervalMs };
      await sleep(
        failures === 0 ? refreshMs * (0.8 + Math.random() * 0.2) : backoffMs(failures, retry),
        stopping.signal,
      );
    }
  })();
  return {
    find(kid) {
      const key = current()?.get(kid);
      if (key) return key;
      if (!looking && now() - lookedAt < minLookIntervalMs) return settle(() => answer(kid));
      return look().then(() => answer(kid));
    },
    onChange: (listener) => void listeners.push(listener),
    ready: () => current() !== null,
    async stop() {
      stopping.abort(new Error('the service is stopping'));
      await loop;
      await copy.settled();
    },
  };
}

/** A fault as a rejection, as for answers that take time. */
async function settle<T>(answer: () => T): Promise<T> {
  return answer();
}

/** A copy that cannot be used is as good as none. */
async function readCopy(copy: LastGoodCopy, url: string, log: Logger) {
  try {
    const found = await copy.read();
    if (!found) return null;
    const text = found.bytes.toString('utf8');
    return { keys: parseKeys(text, `the copy of ${url}`), text, age: found.age };
  } catch (error) {
    log.warn({ err: error }, 'the copy of the keys is of no use');
    return null;
  }
}

/**
 * The body of a 200. Anything else is a failure, redirects included: they would name a source that nobody configured.
 * Who the server is, its SPIFFE id tells, whatever name it is reached under.
 */
async function get(options: KeyUrlOptions, stopping: AbortSignal): Promise<string> {
  const { url, expectWorkload, trustDomain } = options;
  const ca = await readFile(options.caFile);
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      ca,
      agent: false,
      signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), stopping]),
      headers: { accept: 'application/jwk-set+json, application/json' },
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
      if (response.statusCode !== 200) return fail(`answered ${response.statusCode}`);
      const parts: Buffer[] = [];
      let length = 0;
      response.on('data', (part: Buffer) => {
        length += part.length;
        if (length > maxKeySetBytes) fail(`answered with more than ${maxKeySetBytes} bytes`);
        else parts.push(part);
      });
      response.on('error', reject);
      response.once('end', () => resolve(Buffer.concat(parts).toString('utf8')));
    });
    outgoing.end();
  });
}
