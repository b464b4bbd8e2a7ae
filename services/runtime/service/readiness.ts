import type { PolicySource } from '../authz/policy-source.ts';
import type { Database } from '../db/database.ts';
import type { Messaging } from '../messaging/messaging.ts';
import type { health } from '../rpc/health.ts';
import { sleep } from '../time/sleep.ts';
import type { Authority } from './authority.ts';

/** A start without policy or keys waits this long, not for ever: some calls need neither. */
const trustWaitMs = 5_000;
const trustPollMs = 100;

/** What a service waits for, by name; empty when it is ready. For the readiness page. */
export async function waitingFor(
  stopping: boolean,
  { policy, db, messaging }: { policy: PolicySource; db: Database; messaging: Messaging },
): Promise<string[]> {
  const waiting: string[] = [];
  if (stopping) waiting.push('drain');
  if (!policy.current()) waiting.push('policy');
  await db.ping().catch(() => waiting.push('database'));
  return [...waiting, ...messaging.waitingFor()];
}

/**
 * Reports the service as serving while it has a policy: without one every call is refused. Aborting the returned
 * controller reports it as not serving, for good. The database is deliberately ignored: it is the same for every
 * instance, so that clients would have no instance left, whereas now they get an error that names the cause.
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
 * Waits for policy and keys, so that a client that waits for the service does not find it refusing every call, unless
 * they stay missing.
 */
export async function waitUntilReady(authority: Authority, stopping: AbortSignal): Promise<void> {
  const end = performance.now() + trustWaitMs;
  while (!authority.ready() && !stopping.aborted && performance.now() < end) await sleep(trustPollMs, stopping);
}
