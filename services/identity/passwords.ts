import type { Algorithm } from '@node-rs/argon2';
import { passwordsBusy } from './errors.ts';
import { type Weakness, weaknessOf } from './password-strength.ts';

/** What OWASP recommends for Argon2id: 19 MiB, two passes, one lane. */
const parameters = { algorithm: 2 satisfies Algorithm.Argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 };
const current = `$argon2id$v=19$m=${parameters.memoryCost},t=${parameters.timeCost},p=${parameters.parallelism}$`;

/** What the passwords of accounts that do not exist are compared with. It is the hash of no password that is known. */
const nobodysHash = `${current}dZbQi2p4Gl3bs5611rfvCg$PXhVVPimsLvearhEVBDiRa4rfAN3cmOZqEHkZ4nFcN4`;

/** Loaded with the first password. */
const argon2 = () => import('@node-rs/argon2');

const waits = { waitersMax: 200, waitTimeoutMs: 4_000 };

/**
 * Whose turn comes first when passwords are compared: attempts from a source that has signed in to the account before,
 * then those of accounts and sources without failures, then the rest.
 */
export type Rank = 'familiar' | 'new' | 'suspect';
const ranks: readonly Rank[] = ['familiar', 'new', 'suspect'];

/** What a new password is for. Each has a slot of its own. */
export type NewPasswordUse = 'registration' | 'replacement';

export interface Passwords {
  /** Hashes a new password. Throws RESOURCE_EXHAUSTED when too many wait. */
  hash(password: string, use: NewPasswordUse): Promise<string>;
  /**
   * Compares; with null, for an account that is not there, it takes as long and says no. `stale`: the hash was made
   * with other parameters and should be made anew. Throws RESOURCE_EXHAUSTED when too many of this rank wait.
   */
  check(password: string, stored: string | null, rank: Rank): Promise<{ right: boolean; stale: boolean }>;
}

/** One form for what looks and is typed the same, however the keyboard composed it. */
export const normalized = (password: string): string => password.normalize('NFKC');

/** The rule that a new password breaks, if any. `about`: what is known of its owner. */
export const weakness = (password: string, about: readonly string[] = []): Promise<Weakness | null> =>
  weaknessOf(normalized(password), about);

/**
 * Argon2id with bounded memory: at most two comparisons for familiar attempts at once and one for others, and one new
 * password of each use; a bounded number of waiters, and a bounded wait. The threads that files and names are looked up
 * with stay free.
 */
export function passwords(): Passwords {
  const compare = turns({ ...waits, sideBySide: 2, others: 1 });
  const make = {
    registration: turns({ ...waits, sideBySide: 1 }),
    replacement: turns({ ...waits, sideBySide: 1 }),
  };
  return {
    hash: (password, use) => make[use](async () => (await argon2()).hash(normalized(password), parameters)),
    async check(password, stored, rank) {
      const against = stored ?? nobodysHash;
      const right = await compare(async () => (await argon2()).verify(against, normalized(password)), rank);
      return { right: right && stored !== null, stale: !against.startsWith(current) };
    },
  };
}

interface TurnLimits {
  /** How much familiar work runs at the same time, and how much other work beside it. */
  sideBySide: number;
  others?: number;
  /** How many may wait in each rank. */
  waitersMax: number;
  waitTimeoutMs: number;
}

/**
 * Runs work side by side up to a limit. The rest waits by rank and in order, for a bounded time; too many of one rank
 * are refused. Suspect work starts only while no familiar work runs.
 */
export function turns({ sideBySide, others = 0, waitersMax, waitTimeoutMs }: TurnLimits) {
  const running: Record<Rank, number> = { familiar: 0, new: 0, suspect: 0 };
  const waiters: Record<Rank, (() => void)[]> = { familiar: [], new: [], suspect: [] };
  const mayRun = (rank: Rank) => {
    if (rank === 'familiar') return running.familiar < sideBySide;
    return running.new + running.suspect < others && (rank === 'new' || running.familiar === 0);
  };

  const enter = async (rank: Rank) => {
    if (mayRun(rank)) {
      running[rank] += 1;
      return;
    }
    const queue = waiters[rank];
    if (queue.length >= waitersMax) throw passwordsBusy();
    await new Promise<void>((resolve, reject) => {
      const admit = () => {
        clearTimeout(timer);
        running[rank] += 1;
        resolve();
      };
      const timer = setTimeout(() => {
        queue.splice(queue.indexOf(admit), 1);
        reject(passwordsBusy());
      }, waitTimeoutMs);
      queue.push(admit);
    });
  };

  return async <T>(work: () => Promise<T>, rank: Rank = 'familiar'): Promise<T> => {
    await enter(rank);
    try {
      return await work();
    } finally {
      running[rank] -= 1;
      const next = ranks.find((one) => waiters[one].length > 0 && mayRun(one));
      if (next) waiters[next].shift()?.();
    }
  };
}
