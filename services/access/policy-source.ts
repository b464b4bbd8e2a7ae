import {
  type Background,
  type CallContext,
  type Database,
  sleep,
  type Watchers,
  wakeableSleeps,
} from '@armature/runtime';
import { type Policy, type PolicyRows, type PolicySource, parsePolicy, policyOf } from '@armature/runtime/authz';
import { policyUnavailable } from '@armature/runtime/errors';
import type { Logger } from '@armature/runtime/telemetry';
import { type Head, policyKey, readHead, readPolicy } from './policy-store.ts';

/** One version of the policy, as it is sent to watchers. It is immutable. */
export interface Snapshot extends Head {
  /** The text. */
  readonly bytes: Buffer;
  readonly policy: Policy;
  /** The rows of the text, read when first asked for. */
  rows(): PolicyRows;
}

/** The policy of this service, read from its own tables, and the versions that watchers are sent. */
export interface OwnPolicy extends PolicySource {
  /** The last version that was read, whether or not it may still be trusted. */
  latest(): Snapshot | null;
  /** The last version, if it was found to be in force within the last `ms`; else null. */
  confirmed(ms: number): Snapshot | null;
  /** The version in force now: reads what was committed before the call. Throws UNAVAILABLE when there is none. */
  fresh(call: CallContext): Promise<Snapshot>;
  /** Resolves once there is another version than the one seen, after `ms`, or with the signal; never rejects. */
  changed(seen: Snapshot | null, ms: number, signal: AbortSignal): Promise<void>;
}

export interface OwnPolicyOptions {
  db: Pick<Database, 'read'>;
  watching: Watchers;
  background: Background;
  log: Logger;
  /** How long a policy is trusted after it was last found to be in force. */
  ageMaxMs: number;
  /** Makes the first version when there is none; called again until there is. */
  seed: (call: CallContext) => Promise<void>;
  /** The least time between two reads of the head. Changes within it are read as one. */
  gapMs?: number;
  /** Milliseconds of a monotonic clock. */
  now?: () => number;
}

const readTimeoutMs = 10_000;

/**
 * Reads the policy and keeps it up to date: changes of this process wake it, and polling the head finds those of other
 * instances. When the policy is damaged or cannot be read, the last good version stays in force until it is too old.
 * Without a version every call is denied. Resolves after the first attempt to read the policy, also when that failed.
 */
export async function ownPolicy(options: OwnPolicyOptions): Promise<OwnPolicy> {
  const { db, watching, background, log, ageMaxMs, seed, gapMs = 150, now = () => performance.now() } = options;
  let snapshot: Snapshot | null = null;
  let confirmedAt = Number.NEGATIVE_INFINITY;
  let failure = '';
  const waiting = wakeableSleeps();

  const adopt = (next: Snapshot, at: number): void => {
    confirmedAt = at;
    if (next === snapshot) return;
    snapshot = next;
    waiting.wake(policyKey);
  };
  const refresh = async (call: CallContext): Promise<void> => {
    const at = now();
    let head = await db.read(call, readHead);
    if (head.version === 0n) {
      await seed(call);
      head = await db.read(call, readHead);
      if (head.version === 0n) throw new Error('the schema holds no policy');
    }
    if (snapshot?.version === head.version && snapshot.digest === head.digest) return adopt(snapshot, at);
    if (snapshot?.digest === head.digest) return adopt({ ...snapshot, ...head }, at);
    adopt(snapshotOf(await db.read(call, readPolicy), snapshot?.policy ?? null), at);
    log.info({ version: String(head.version), digest: head.digest }, 'policy in force');
  };
  const reader = oneAtATime(async () => {
    const call = background('read the policy', readTimeoutMs);
    try {
      await refresh(call);
      if (failure) log.info('the policy can be read again');
      failure = '';
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      // Logged once, not at every poll.
      if (message !== failure)
        log.error({ err: error }, 'the policy cannot be read; the last good version stays in force');
      failure = message;
    } finally {
      call.close();
    }
  });

  const stopping = new AbortController();
  await reader.run();
  const following = follow(watching, gapMs, reader.run, stopping.signal);
  const confirmed = (ms: number): Snapshot | null => (now() - confirmedAt <= ms ? snapshot : null);
  return {
    current: () => confirmed(ageMaxMs)?.policy ?? null,
    problem: () => failure,
    latest: () => snapshot,
    confirmed,
    async fresh() {
      const asked = now();
      await reader.next();
      const found = confirmed(now() - asked);
      if (!found) throw policyUnavailable();
      return found;
    },
    async changed(seen, ms, signal) {
      if (snapshot === seen) await waiting.sleep(policyKey, ms, signal);
    },
    async stop() {
      stopping.abort();
      await following;
    },
  };
}

/** Throws when the text is not a policy or does not match its digest. */
function snapshotOf({ version, digest, text }: Head & { text: string }, before: Policy | null): Snapshot {
  const policy = policyOf(text, 'policy', before);
  if (policy.version !== digest) throw new Error(`the text of policy version ${version} does not match its digest`);
  let rows: PolicyRows | null = null;
  return {
    version,
    digest,
    bytes: Buffer.from(text),
    policy,
    rows() {
      rows ??= parsePolicy(text, 'policy');
      return rows;
    },
  };
}

/** Reads at each wake, then waits for the gap: of a burst of changes only the last is read. */
async function follow(watching: Watchers, gapMs: number, read: () => Promise<void>, stopping: AbortSignal) {
  try {
    for await (const _ of watching.changes([policyKey], stopping)) {
      await read();
      await sleep(gapMs, stopping);
    }
  } catch (error) {
    if (!stopping.aborted) throw error;
  }
}

/** Callers that arrive while the work runs share its result. */
function oneAtATime(work: () => Promise<void>) {
  let running: Promise<void> | null = null;
  const run = (): Promise<void> => {
    running ??= work().finally(() => {
      running = null;
    });
    return running;
  };
  return {
    run,
    /** A run that begins after this call. */
    async next(): Promise<void> {
      if (running) await running;
      await run();
    },
  };
}
