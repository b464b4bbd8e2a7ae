import type { WatchPolicyRequest, WatchPolicyResponse } from '@armature/proto/access/v1/access.ts';
import type { LastGoodCopy } from '../credentials/last-good-copy.ts';
import { RpcError } from '../errors/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Registry } from '../telemetry/metrics.ts';
import { backOff } from '../time/backoff.ts';
import { sleep } from '../time/sleep.ts';
import { type Policy, policyHolder, policyOf } from './policy.ts';
import { type PolicyLabel, policyAssembly, type Received } from './policy-assembly.ts';
import { followerMetrics, type UpdateOutcome } from './policy-metrics.ts';
import type { PolicySource } from './policy-source.ts';

/** The part of access's client that the follower needs. */
export interface PolicyClient {
  watchPolicy(
    request: Partial<WatchPolicyRequest>,
    options: { signal: AbortSignal },
  ): AsyncIterable<WatchPolicyResponse>;
  close(): void;
}

export interface FollowerOptions {
  /** The Casbin subject of this process, such as "service:orders". */
  workload: string;
  /** Returns a client with its own connections: each stream gets a new one, and closes it when it ends. */
  connect(): PolicyClient;
  copy: LastGoodCopy;
  /** How long a policy that access has not confirmed is trusted. */
  ageMaxMs: number;
  log: Logger;
  registry: Registry;
  /** A stream without messages is closed after this time: its connection may be dead without an error. */
  messageTimeoutMs?: number;
  /** Milliseconds of a monotonic clock. */
  now?: () => number;
}

const maxTextBytes = 16 * 1024 * 1024;
/**
 * Compiling a large policy blocks calls, so the follower pauses afterwards: it compiles at most a fifth of the time.
 */
const largeMs = 20;
const restMaxMs = 1_000;
const backoff = { initialBackoffMs: 50, maxBackoffMs: 2_000 };

/**
 * Follows the policy of access by the stream WatchPolicy.
 *
 * The returned source has one policy at a time, or null. A newer version replaces the whole policy between two
 * decisions, once its text is complete, matches its digest and is valid in every row. Any other text is refused and
 * counted, and the current policy stays.
 *
 * Access confirms the current version regularly. `current` returns null once the last confirmation is older than
 * `ageMaxMs`: every call is then refused, because a revoked permission must not stay in force without limit. After a
 * start, the copy on disk serves until the stream is open, under the same limit.
 *
 * An older version than the current one is applied only when the current one is no longer trusted: an instance of
 * access that lags behind must not restore permissions that were revoked.
 */
export async function followPolicy(options: FollowerOptions): Promise<PolicySource> {
  const { ageMaxMs, copy, log, registry, now = () => performance.now() } = options;
  const holder = policyHolder();
  /** Version and digest of the policy in `holder`, and when access has confirmed it last. */
  let currentLabel: PolicyLabel & { confirmedAt: number } = {
    version: 0n,
    digest: '',
    confirmedAt: Number.NEGATIVE_INFINITY,
  };
  const age = (): number => now() - currentLabel.confirmedAt;
  const current = (): Policy | null => (age() <= ageMaxMs ? holder.current() : null);
  const { count } = followerMetrics(registry, age);

  const adopt = (policy: Policy, version: bigint, confirmedAt: number): void => {
    holder.swap(policy);
    currentLabel = { version, digest: policy.version, confirmedAt };
  };
  const found = await readCopy(copy, log);
  if (found && found.age <= ageMaxMs) {
    adopt(found.policy, found.version, now() - found.age);
    count('copied');
    log.info(
      { version: String(found.version), digest: currentLabel.digest },
      'started with the last good copy of the policy',
    );
  } else if (found) log.warn({ age_ms: found.age }, 'the copy of the policy is too old to be trusted');

  const receive = receiver({
    trustedLabel: () => (current() ? currentLabel : null),
    adopt(text, version) {
      adopt(text.policy, version, now());
      copy.write(text.bytes, String(version));
    },
    confirm(version) {
      currentLabel = { ...currentLabel, version, confirmedAt: now() };
      copy.confirm();
    },
    digest: () => currentLabel.digest,
    policy: holder.current,
    count,
    log,
  });
  const stopping = new AbortController();
  let problem = '';
  const tell = (error: unknown) => {
    problem = error === null ? '' : describe(error, options.workload);
  };
  const following = follow({ ...options, receive, digest: () => currentLabel.digest, tell }, stopping.signal);
  return {
    current,
    problem() {
      if (!holder.current()) return problem;
      const unconfirmed = `access has not confirmed it for ${Math.round(age() / 1000)} s`;
      return problem === '' ? unconfirmed : `${unconfirmed}: ${problem}`;
    },
    async stop() {
      stopping.abort(new Error('the service is stopping'));
      await following;
      await copy.flushed();
    },
  };
}

/** Access refuses a workload that its policy does not name, which is the case for a service that is new. */
function describe(error: unknown, workload: string): string {
  if (!(error instanceof Error)) return String(error);
  return error instanceof RpcError && error.code === 'PERMISSION_DENIED'
    ? `the policy in force has no rows for ${workload}; armature access apply adds them (${error.message})`
    : error.message;
}

interface CopiedPolicy {
  policy: Policy;
  version: bigint;
  age: number;
}

/** Returns null when there is no copy, or when it is damaged or no valid policy. */
async function readCopy(copy: LastGoodCopy, log: Logger): Promise<CopiedPolicy | null> {
  try {
    const found = await copy.read();
    if (!found) return null;
    const version = /^\d{1,19}$/.test(found.note) ? BigInt(found.note) : 0n;
    return { policy: policyOf(textOf(found.bytes), 'copied policy'), version, age: found.age };
  } catch (error) {
    log.warn({ err: error }, 'the copy of the policy cannot be used');
    return null;
  }
}

interface Receiving {
  /** Version and digest of the current policy; null when it is no longer trusted. */
  trustedLabel(): PolicyLabel | null;
  /** The digest of the current policy, trusted or not. */
  digest(): string;
  policy(): Policy | null;
  adopt(text: { policy: Policy; bytes: Buffer }, version: bigint): void;
  confirm(version: bigint): void;
  count(outcome: UpdateOutcome): void;
  log: Logger;
}

/**
 * Returns the handler of complete messages: a text, or the sign that a version is in force. The handler returns true
 * when the message confirms the current policy or has replaced it. It throws when the stream cannot be trusted any
 * more, because a text does not match its digest or a version was never sent; the caller then opens a new stream.
 */
function receiver(on: Receiving): (received: NonNullable<Received>) => boolean {
  const isOlder = ({ version, digest }: PolicyLabel): boolean => {
    const trusted = on.trustedLabel();
    return trusted !== null && version < trusted.version && digest !== trusted.digest;
  };
  /** The digest of the text that was refused last. */
  let refused = '';
  return (received) => {
    const { version, digest } = received;
    if (isOlder(received)) {
      on.count('older');
      return false;
    }
    if (received.kind === 'sign') {
      // This version was refused here: the current policy is no longer in force, so it is not confirmed.
      if (digest === refused) return false;
      if (digest !== on.digest())
        throw new Error(`access says that policy ${version} is in force, and did not send it`);
      on.confirm(version);
      return true;
    }
    let policy: Policy;
    try {
      policy = policyOf(textOf(received.bytes), 'policy', on.policy());
    } catch (error) {
      refused = digest;
      on.count('refused');
      on.log.error({ err: error, version: String(version), digest }, 'policy refused; the last good one stays');
      return false;
    }
    if (policy.version !== digest) {
      on.count('refused');
      throw new Error(`the text of policy ${version} is not the one of its digest ${digest}`);
    }
    on.adopt({ policy, bytes: received.bytes }, version);
    on.count('applied');
    on.log.info({ version: String(version), digest }, 'policy applied');
    return true;
  };
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}

type Following = FollowerOptions & {
  receive: ReturnType<typeof receiver>;
  digest(): string;
  /** Called with why the policy is not followed now, and with null once it is. */
  tell(problem: unknown): void;
};

/** Opens one stream after the other, with backoff, until the signal aborts. */
async function follow(on: Following, stopping: AbortSignal): Promise<void> {
  let failures = 0;
  while (!stopping.aborted) {
    try {
      await watch(on, stopping, () => {
        if (failures > 0) on.log.info('the policy is followed again');
        failures = 0;
        on.tell(null);
      });
    } catch (error) {
      if (stopping.aborted) return;
      failures += 1;
      on.tell(error);
      if (failures === 1) on.log.warn({ err: error }, 'the policy is not followed now; it is tried again');
    }
    // Full jitter: services that lost access together must not reconnect together.
    await backOff(failures + 1, backoff, stopping, { jitter: 'full' });
  }
}

/** Reads one stream until it ends or fails, or no message arrives for `messageTimeoutMs`. */
async function watch(on: Following, stopping: AbortSignal, onConfirmed: () => void): Promise<void> {
  const { messageTimeoutMs = 3_000 } = on;
  const timedOut = new AbortController();
  const client = on.connect();
  const timer = setTimeout(
    () => timedOut.abort(new Error(`no message from access for ${messageTimeoutMs} ms`)),
    messageTimeoutMs,
  );
  try {
    const assembly = policyAssembly(maxTextBytes);
    const signal = AbortSignal.any([stopping, timedOut.signal]);
    for await (const message of client.watchPolicy({ digest: on.digest() }, { signal })) {
      timer.refresh();
      const received = assembly.take(message);
      const since = performance.now();
      if (received && on.receive(received)) onConfirmed();
      const took = performance.now() - since;
      // Flow control stops access meanwhile; afterwards it sends only the newest.
      if (took > largeMs) await sleep(Math.min(took * 4, restMaxMs), signal);
      timer.refresh();
    }
  } catch (error) {
    throw timedOut.signal.aborted ? timedOut.signal.reason : error;
  } finally {
    clearTimeout(timer);
    client.close();
  }
}
