import type { SqlReader, Tx } from '@armature/runtime';
import { equalSecrets } from '@armature/runtime/credentials';
import { eraseStoredResponses } from '@armature/runtime/idempotency';
import { type Account, type AccountChange, addressKey, deactivated, mailAddressOf } from './account.ts';
import type { ArtifactStore } from './artifact-store.ts';
import type { EmailStore } from './email-store.ts';
import { passwordWrong, tokenInvalid, userClosed } from './errors.ts';
import { emailIdOf, type MailPurpose } from './mail-token.ts';
import type { Sealing } from './sealing.ts';
import type { SessionStore } from './session-store.ts';
import type { AccountStore } from './store.ts';
import { type VerificationProof, verificationKindOf } from './verification.ts';

export type Accounts = ReturnType<typeof accounts>;

interface AccountParts {
  store: AccountStore;
  emails: EmailStore;
  artifacts: ArtifactStore;
  sessions: SessionStore;
  sealing: Sealing;
  /** Removes e-mails that were sent, where they can be reached. */
  removeMails: (messageIds: readonly string[]) => void;
}

/** The operations on accounts, each a part of the caller's transaction; gRPC and the pages both use them. */
export const accounts = (parts: AccountParts) => ({ ...registration(parts), ...passwords(parts), ...closing(parts) });

/** Uses up the token of a link, and locks and returns its account. Throws TOKEN_INVALID. */
async function redeem({ store, emails, sealing }: AccountParts, tx: Tx, purpose: MailPurpose, token: string) {
  const emailId = emailIdOf(sealing, purpose, token);
  const email = emailId ? await emails.redeem(tx, purpose, emailId) : null;
  if (!email) throw tokenInvalid();
  const account = await store.lock(tx, email.userId);
  return { account, email };
}

/** Ends every session, grant and token of a person, and sign-ins of before no longer count as recent. */
async function endSessions({ artifacts, sessions, store }: AccountParts, tx: Tx, userId: string): Promise<void> {
  await sessions.endAll(tx, userId);
  await artifacts.revokeUser(tx, userId);
  await store.endSessions(tx, userId);
}

/** New accounts, and changes of name and address. */
function registration(parts: AccountParts) {
  const { store, emails } = parts;
  return {
    /**
     * Adds an account, or tells the owner of a taken address by e-mail that it was given. Both send the same statements
     * and return the same. An address is taken once an account has verified it: several accounts may wait for that.
     */
    async register(tx: Tx, registered: { userId: string; email: string; displayName: string }): Promise<void> {
      // The person who verifies the address chooses the password.
      const wanted = { ...registered, passwordHash: null };
      const owner = await store.byAddress(tx, wanted.email);
      if (owner) {
        await store.insertDecoy(tx, wanted);
        await emails.enqueue(tx, { kind: 'address_taken', userId: owner.userId, recipient: mailAddressOf(owner) });
      } else {
        await store.insert(tx, { ...wanted, verifiedEmail: null, state: 'PENDING' });
        await emails.enqueue(tx, { kind: 'verify_email', userId: wanted.userId, recipient: wanted.email });
      }
    },

    /**
     * Throws TOKEN_INVALID, also when another account has verified the address, and PASSWORD_WRONG when the password of
     * the account was changed since the proof.
     */
    async verifyEmail(tx: Tx, token: string, proof: VerificationProof): Promise<string> {
      const { account, email } = await redeem(parts, tx, 'verify_email', token);
      const { recipientKey } = email;
      const open = account.state === 'PENDING' || account.state === 'ACTIVE';
      if (!open || addressKey(account.email) !== recipientKey) throw tokenInvalid();
      if (verificationKindOf(account) !== proof.kind) throw tokenInvalid();
      const { passwordHash } = proof;
      if (proof.kind === 'change' && !equalSecrets(account.passwordHash ?? '', passwordHash))
        throw passwordWrong('password');
      const changes = { state: 'ACTIVE', verifiedEmail: recipientKey, passwordHash } as const;
      if (!(await store.change(tx, account, changes, 'verified'))) throw tokenInvalid();
      return account.userId;
    },

    /** Throws USER_NOT_FOUND and USER_CLOSED. Until a new address is verified the old one stays in use. */
    async update(tx: Tx, userId: string, change: AccountChange): Promise<Account> {
      const account = await store.lock(tx, userId);
      if (account.state === 'DEACTIVATED' || account.state === 'ERASED') throw userClosed(userId);
      const changed = await store.change(tx, account, change, 'updated');
      if (!changed) throw new Error('neither a name nor an unverified address is unique');
      const { email } = change;
      if (email !== undefined && addressKey(email) !== account.verifiedEmail) {
        const owner = await store.byAddress(tx, email);
        const kind = owner ? 'address_taken' : 'verify_email';
        const recipient = owner ? mailAddressOf(owner) : email;
        await emails.enqueue(tx, { kind, userId: owner?.userId ?? userId, recipient });
        if (account.verifiedEmail) {
          await emails.enqueue(tx, { kind: 'address_changing', userId, recipient: mailAddressOf(account) });
        }
      }
      return changed;
    },
  };
}

/** Passwords that are reset by a link or changed. */
function passwords(parts: AccountParts) {
  const { store, emails } = parts;

  async function replacePassword(tx: Tx, account: Account, passwordHash: string): Promise<void> {
    await store.setPassword(tx, account.userId, passwordHash);
    await endSessions(parts, tx, account.userId);
    await emails.revokeLinks(tx, account.userId, 'reset_password');
    const recipient = mailAddressOf(account);
    await emails.enqueue(tx, { kind: 'password_changed', userId: account.userId, recipient });
  }

  return {
    /**
     * Sends a link to the owner of an address, at the address of the account. Without an owner it sends the same
     * statements, and no e-mail.
     */
    async requestReset(tx: Tx, email: string): Promise<void> {
      const owner = await store.byAddress(tx, email);
      const send = owner?.state === 'ACTIVE';
      const recipient = owner ? mailAddressOf(owner) : email;
      await emails.enqueue(tx, { kind: 'reset_password', userId: owner?.userId ?? null, recipient, send });
    },

    /** Throws TOKEN_INVALID unless a link may still be used. Does not use it up. */
    async requireLink(sql: SqlReader, purpose: MailPurpose, token: string): Promise<void> {
      const emailId = emailIdOf(parts.sealing, purpose, token);
      if (!emailId || !(await emails.redeemable(sql, purpose, emailId))) throw tokenInvalid();
    },

    /** Throws TOKEN_INVALID. */
    async resetPassword(tx: Tx, token: string, passwordHash: string): Promise<void> {
      const { account, email } = await redeem(parts, tx, 'reset_password', token);
      if (account.state !== 'ACTIVE' || account.verifiedEmail !== email.recipientKey) throw tokenInvalid();
      await replacePassword(tx, account, passwordHash);
    },

    /**
     * Returns an account to an address that it has had, or keeps it there when the new one is not verified yet. Revokes
     * the links of later changes: they went to addresses of the person whose changes are undone. Throws TOKEN_INVALID,
     * also when another account has verified the address meanwhile.
     */
    async undoEmailChange(tx: Tx, token: string, passwordHash: string): Promise<void> {
      const { account, email } = await redeem(parts, tx, 'address_changing', token);
      const { userId, state, verifiedEmail: lost } = account;
      if (state !== 'ACTIVE' && state !== 'DEACTIVATED') throw tokenInvalid();
      const restored = { email: email.recipientKey, verifiedEmail: email.recipientKey, passwordHash };
      if (!(await store.change(tx, account, restored, 'updated'))) throw tokenInvalid();
      await endSessions(parts, tx, userId);
      for (const purpose of ['verify_email', 'reset_password'] as const) await emails.revokeLinks(tx, userId, purpose);
      await emails.revokeLinks(tx, userId, 'address_changing', email.createdAt);
      if (lost && lost !== email.recipientKey) {
        await emails.enqueue(tx, { kind: 'address_restored', userId, recipient: lost });
      }
    },

    replacePassword,
  };
}

/** The end of accounts. */
function closing(parts: AccountParts) {
  const { store, emails } = parts;
  return {
    /** Ends every session and grant. A closed account stays unchanged. Throws USER_NOT_FOUND. */
    async deactivate(tx: Tx, userId: string): Promise<Account> {
      const account = await store.lock(tx, userId);
      const state = deactivated(account.state);
      if (!state) return account;
      await endSessions(parts, tx, userId);
      return (await store.change(tx, account, { state }, 'deactivated')) ?? account;
    },

    /** Throws USER_NOT_FOUND, and USER_CLOSED for one that was erased. */
    async reactivate(tx: Tx, userId: string): Promise<Account> {
      const account = await store.lock(tx, userId);
      if (account.state === 'ERASED') throw userClosed(userId);
      if (account.state !== 'DEACTIVATED') return account;
      const state = account.verifiedEmail ? 'ACTIVE' : 'PENDING';
      return (await store.change(tx, account, { state }, 'reactivated')) ?? account;
    },

    /**
     * Deletes personal data of the account, its e-mails, its sign-ins and stored responses, and publishes it. For an
     * account that is erased it publishes that again: services that were restored from a backup erase again. Throws
     * USER_NOT_FOUND.
     */
    async erase(tx: Tx, userId: string): Promise<Account> {
      const account = await store.lock(tx, userId);
      await endSessions(parts, tx, userId);
      const mails = await emails.forget(tx, userId);
      tx.afterCommit(() => parts.removeMails(mails));
      await store.forgetSignIns(tx, userId);
      await eraseStoredResponses(tx, userId);
      const nothing = { email: '', displayName: '', verifiedEmail: null, passwordHash: null, state: 'ERASED' } as const;
      return (await store.change(tx, account, nothing, 'erased')) ?? account;
    },
  };
}
