import type { CallContext, Database } from '@armature/runtime';
import type { Account } from './account.ts';
import type { Attempts } from './attempts.ts';
import type { EmailStore } from './email-store.ts';
import { passwordWrong, tokenInvalid } from './errors.ts';
import { emailIdOf } from './mail-token.ts';
import { newPasswordHash } from './new-password.ts';
import type { Passwords } from './passwords.ts';
import type { Sealing } from './sealing.ts';
import type { AccountStore } from './store.ts';

/**
 * Compares a password that the holder of a token or link enters, who may have stolen it. Such attempts have a budget of
 * their own for each account. Throws ATTEMPT_TOO_SOON, and RESOURCE_EXHAUSTED when too many wait.
 */
export async function comparePassword(
  { attempts, passwords }: { attempts: Attempts; passwords: Passwords },
  call: CallContext,
  { userId, password, passwordHash }: { userId: string; password: string; passwordHash: string | null },
): Promise<boolean> {
  const attempt = await attempts.begin(call, { subject: `change\0${userId}`, source: null, familiar: false });
  await attempt.wait(call.signal);
  const rank = attempt.failuresBefore === 0 ? 'new' : 'suspect';
  const compared = await passwords.check(password, passwordHash, rank).catch(async (error: unknown) => {
    await attempt.uncount();
    throw error;
  });
  if (compared.right) await attempt.uncount();
  return compared.right;
}

/** What a link of the purpose verify_email verifies: the address of a new account, or the new address of an account. */
export type VerificationKind = 'registration' | 'change';

export const verificationKindOf = (account: Account): VerificationKind =>
  account.verifiedEmail === null ? 'registration' : 'change';

/** Shows that the person who verifies may do so. */
export interface VerificationProof {
  kind: VerificationKind;
  /** Of a registration: the hash of the new password. Of a change: the hash that the password was compared with. */
  passwordHash: string;
}

interface VerificationRequest {
  token: string;
  password: string;
}

export type Verification = ReturnType<typeof verification>;

/**
 * Who holds the link of an e-mail may be another person than who entered its address. So a registration gets the
 * password that the recipient of the e-mail chooses: the password of the person who registered is worth nothing. A
 * change of address needs the password of the account: a recipient who does not know it cannot be made to take an
 * account over that its former owner takes back, and a stolen access token is not enough to change an address.
 */
export function verification(parts: {
  db: Database;
  store: AccountStore;
  emails: EmailStore;
  sealing: Sealing;
  passwords: Passwords;
  attempts: Attempts;
}) {
  const { db, store, emails, sealing, passwords, attempts } = parts;

  /** The account of a valid link; null when the link is not valid. */
  async function accountOf(token: string): Promise<Account | null> {
    const emailId = emailIdOf(sealing, 'verify_email', token);
    if (!emailId) return null;
    return db.read(null, async (sql) => {
      const email = await emails.redeemable(sql, 'verify_email', emailId);
      return email && store.findOptional(sql, email.userId);
    });
  }

  return {
    /** What a link verifies; null when it is not valid. */
    async kindOf(token: string): Promise<VerificationKind | null> {
      const account = await accountOf(token);
      return account && verificationKindOf(account);
    },

    /**
     * Hashes or compares the password; `Accounts.verifyEmail` takes the result. Throws TOKEN_INVALID, FIELDS_INVALID,
     * PASSWORD_COMMON, PASSWORD_WRONG, ATTEMPT_TOO_SOON, and RESOURCE_EXHAUSTED when too many wait.
     */
    async prove({ token, password }: VerificationRequest, call: CallContext): Promise<VerificationProof> {
      const account = await accountOf(token);
      if (!account) throw tokenInvalid();
      const { userId, email, displayName, passwordHash } = account;
      if (verificationKindOf(account) === 'registration') {
        const about = [email, displayName];
        const hash = await newPasswordHash(passwords, password, { use: 'registration', field: 'password', about });
        return { kind: 'registration', passwordHash: hash };
      }
      // The same count as for a change of the password: the holder of a stolen token has no more guesses by both.
      const right = await comparePassword({ passwords, attempts }, call, { userId, password, passwordHash });
      if (!right || passwordHash === null) throw passwordWrong('password');
      return { kind: 'change', passwordHash };
    },
  };
}
