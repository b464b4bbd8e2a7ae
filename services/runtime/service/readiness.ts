import type { PolicySource } from '../authz/policy-source.ts';
import type { Database } from '../db/database.ts';
import type { Messaging } from '../messaging/messaging.ts';
import type { health } from '../rpc/health.ts';
import { sleep } from '../time/sleep.ts';
import type { Authority } from './authority.ts';

/**
 * How long a start waits for policy and keys before it lets the service be called without: identity and access need
 * each other's calls at a first start, and some calls need neither.
 */
const trustWaitMs = 5_000;
const trustPollMs = 100;

/** What a service waits for, each with the reason where it is known; empty when it is ready. For the readiness page. */
export async function waitingFor(
  stopping: boolean,
  { authority, db, messaging }: { authority: Pick<Authority, 'waitingFor'>; db: Database; messaging: Messaging },
): Promise<string[]> {
  const waiting: string[] = [];
  if (stopping) waiting.push('drain');
  waiting.push(...authority.waitingFor());
  await db.ping().catch(() => waiting.push('database'));
  return [...waiting, ...messaging.waitingFor()];
}

/**
 * Reports the service as serving while it has a policy: without one every call is refused. Aborting the returned
 * controller reports it as not serving, for good. The keys are deliberately ignored: without them calls of workloads
 * succeed, by which other services start. So is the database: it is the same for every instance, so that clients would
 * have no instance left, whereas now they get an error that names the cause.
 */
export function followPolicyHealth(statuses: ReturnType<typeof health>, policy: PolicySource): AbortController {
  const stopping = new AbortController();
  const tell = () => statuses.set(!stopping.signal.aborted && policy.current() !== null);
  const timer = setInterval(tell, trustPollMs);
  timer.unref();
  stopping.signal.addEventListener('abort', () => {
    clearInterval(timer);
    tell();
  });
  tell();
  return stopping;
}

/**
 * Waits for policy and keys, at most 5 s: the readiness page says what is missing after that. Returns what it still
 * waits for.
 */
export async function waitForTrust(authority: Pick<Authority, 'waitingFor'>, stopping: AbortSignal): Promise<string[]> {
  const end = performance.now() + trustWaitMs;
  while (authority.waitingFor().length > 0 && !stopping.aborted && performance.now() < end) {
    await sleep(trustPollMs, stopping);
  }
  return authority.waitingFor();
}
