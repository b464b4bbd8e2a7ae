import type { CallContext, SqlReader } from '@armature/runtime';
import { signInTooOld } from './errors.ts';
import type { AccountStore } from './store.ts';

/** Throws SIGN_IN_TOO_OLD unless the caller has signed in recently. */
export type RequireRecentSignIn = (sql: SqlReader, call: CallContext) => Promise<void>;

/**
 * Requires that the person behind a call gave the password at most `maxAgeS` seconds ago, and that the sessions of their
 * account were not ended since. Called in the transaction of what gives an account or its data away: a stolen access
 * token, or a refresh token, does not get that far. A workload without a token has no sign-in and is not held back.
 */
export function recentSignIn({ maxAgeS, store }: { maxAgeS: number; store: AccountStore }): RequireRecentSignIn {
  return async (sql, { caller }) => {
    const { user } = caller;
    if (!user) return;
    const { signedInAtMs } = user;
    if (signedInAtMs === undefined || signedInAtMs < Date.now() - maxAgeS * 1000) throw signInTooOld(maxAgeS);
    if (user.kind !== 'user') return;
    const endedAt = await store.sessionsEndedAt(sql, user.subject);
    // The claim auth_time has whole seconds.
    if (endedAt && signedInAtMs < Math.floor(endedAt.getTime() / 1000) * 1000) throw signInTooOld(maxAgeS);
  };
}
