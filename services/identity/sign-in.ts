import type { CallContext, Database } from '@armature/runtime';
import type { Attempts } from './attempts.ts';
import type { Passwords } from './passwords.ts';
import { sourceOf } from './source.ts';
import type { AccountStore } from './store.ts';

export type SignInOutcome = { kind: 'signed_in'; userId: string } | { kind: 'refused' };

export type SignIn = (
  attempt: {
    /** An address in the form that is compared. */
    address: string;
    password: string;
    /** The IP address that the attempt comes from. */
    ip: string;
    clientId: string;
    signal: AbortSignal;
  },
  call: CallContext,
) => Promise<SignInOutcome>;

/**
 * Compares an address and a password. Unknown addresses take the same way as known ones: the same statements, waits and
 * one comparison. Throws ATTEMPT_TOO_SOON, and RESOURCE_EXHAUSTED when too many passwords are being compared.
 */
export function signIn(parts: { db: Database; store: AccountStore; passwords: Passwords; attempts: Attempts }): SignIn {
  const { db, store, passwords, attempts } = parts;
  return async ({ address, password, ip, clientId, signal }, call) => {
    const source = sourceOf(ip);
    const familiar = await db.read(call, (sql) => store.isFamiliar(sql, address, source));
    const attempt = await attempts.begin(call, { subject: `sign in\0${address}`, source, familiar });
    await attempt.wait(signal);
    const account = await db.read(call, (sql) => store.byAddress(sql, address));
    const stored = account?.passwordHash ?? null;
    const rank = familiar ? 'familiar' : attempt.failuresBefore === 0 ? 'new' : 'suspect';
    const { right, stale } = await passwords.check(password, stored, rank).catch(async (error: unknown) => {
      await attempt.uncount();
      throw error;
    });
    if (!right || !account || account.state !== 'ACTIVE') return { kind: 'refused' };
    await attempt.uncount();
    const fresh = stale && stored ? await passwords.hash(password, 'replacement') : null;
    if (fresh && stored) await db.write(call, (sql) => store.rehash(sql, account.userId, stored, fresh));
    await db.write(call, (sql) => store.recordSignIn(sql, { userId: account.userId, clientId, source }));
    return { kind: 'signed_in', userId: account.userId };
  };
}
