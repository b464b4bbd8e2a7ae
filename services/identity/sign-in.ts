import type { Database } from '@armature/runtime';
import { addressKey } from './account.ts';
import { passwordsBusy } from './errors.ts';
import type { Passwords } from './passwords.ts';
import type { AccountStore } from './store.ts';
import type { Throttle } from './throttle.ts';

/** Attempts that may wait for their delay at once; more are told to come back. */
const waitingMax = 1_000;

export type SignInOutcome = { kind: 'signed_in'; userId: string } | { kind: 'refused' };

export type SignIn = (attempt: {
  email: string;
  password: string;
  source: string;
  clientId: string;
}) => Promise<SignInOutcome>;

/**
 * Compares an address and a password. Unknown addresses take the same way as known ones: the same delay, one hash and
 * the same response. Throws RESOURCE_EXHAUSTED when too many attempts are under way.
 */
export function signIn(parts: {
  db: Database;
  store: AccountStore;
  passwords: Passwords;
  throttle: Throttle;
  stopping: AbortSignal;
}): SignIn {
  const { db, store, passwords, throttle, stopping } = parts;
  let waiting = 0;
  return async ({ email, password, source, clientId }) => {
    if (waiting >= waitingMax) throw passwordsBusy();
    waiting += 1;
    try {
      const attempt = await throttle.begin(addressKey(email), source);
      await attempt.delay(stopping);
      const account = await db.read(null, (sql) => store.byAddress(sql, email));
      const stored = account?.passwordHash ?? null;
      const { right, stale } = await passwords.check(password, stored);
      if (!right || !account || account.state !== 'ACTIVE') return { kind: 'refused' };
      await attempt.succeeded();
      const fresh = stale && stored ? await passwords.hash(password) : null;
      if (fresh && stored) await db.write(null, (sql) => store.rehash(sql, account.userId, stored, fresh));
      await db.write(null, (sql) => store.recordSignIn(sql, { userId: account.userId, clientId, source }));
      return { kind: 'signed_in', userId: account.userId };
    } finally {
      waiting -= 1;
    }
  };
}
