import { emailKey } from '@armature/proto/email.ts';
import { fieldMaskInvalid } from '@armature/runtime';

/** DECOY is not an account: it is what a registration of a taken address leaves, and nothing ever shows it. */
export type AccountState = 'PENDING' | 'ACTIVE' | 'DEACTIVATED' | 'ERASED' | 'DECOY';

export interface Account {
  userId: string;
  /** As its owner writes it; it may wait for its verification. Empty once erased. */
  email: string;
  /** The address that signs in and gets mail, in the form that is compared; null until one was verified. */
  verifiedEmail: string | null;
  displayName: string;
  passwordHash: string | null;
  state: AccountState;
  /** How many events there are of this account. */
  sequence: bigint;
  createdAt: Date;
  /** The time of creation as the database writes it, with microseconds, which `Date` does not have: the cursor of lists. */
  createdAtText: string;
  updatedAt: Date;
}

/**
 * The form in which the addresses of accounts are compared. A text that is no address, such as that of an erased
 * account, never gets the form of an address.
 */
export const addressKey = (email: string): string =>
  emailKey(email) ?? email.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

export const isVerified = (account: Account): boolean =>
  account.verifiedEmail !== null && account.verifiedEmail === addressKey(account.email);

/** Where mail for an account goes: its verified address, as its owner wrote it where that is known. */
export const mailAddressOf = (account: Account): string =>
  isVerified(account) ? account.email : (account.verifiedEmail ?? account.email);

export interface AccountChange {
  displayName?: string;
  email?: string;
}

/** What a request changes: what its mask names, and nothing else. Throws FIELD_MASK_INVALID. */
export function changeOf(
  message: { displayName: string; email: string },
  updateMask: readonly string[],
): AccountChange {
  const change: AccountChange = {};
  for (const path of updateMask) {
    if (path === 'display_name') change.displayName = message.displayName;
    else if (path === 'email') change.email = message.email;
    else throw fieldMaskInvalid(path);
    if (path === 'display_name' ? message.displayName === '' : message.email === '') throw fieldMaskInvalid(path);
  }
  return change;
}

/** What deactivating makes of an account; null when there is nothing to do. */
export const deactivated = (state: AccountState): AccountState | null =>
  state === 'PENDING' || state === 'ACTIVE' ? 'DEACTIVATED' : null;
