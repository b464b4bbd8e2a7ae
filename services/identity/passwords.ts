import type { Algorithm } from '@node-rs/argon2';
import { passwordsBusy } from './errors.ts';
import { type Weakness, weaknessOf } from './password-strength.ts';

/** What OWASP recommends for Argon2id: 19 MiB, two passes, one lane. */
const parameters = { algorithm: 2 satisfies Algorithm.Argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 };
const current = `$argon2id$v=19$m=${parameters.memoryCost},t=${parameters.timeCost},p=${parameters.parallelism}$`;

/** Loaded with the first password. */
const argon2 = () => import('@node-rs/argon2');

const limits = { sideBySide: 2, waitersMax: 200, waitTimeoutMs: 4_000 };

export interface Passwords {
  /** Hashes a new password. Throws RESOURCE_EXHAUSTED when too many wait. */
  hash(password: string): Promise<string>;
  /**
   * Compares; with null, for an account that is not there, it takes as long and says no. `stale`: the hash was made
   * with other parameters and should be made anew.
   */
  check(password: string, stored: string | null): Promise<{ right: boolean; stale: boolean }>;
}

/** One form for what looks and is typed the same, however the keyboard composed it. */
export const normalized = (password: string): string => password.normalize('NFKC');

/** The rule that a new password breaks, if any. `about`: what is known of its owner. */
export const weakness = (password: string, about: readonly string[] = []): Promise<Weakness | null> =>
  weaknessOf(normalized(password), about);

/**
 * Argon2id with bounded memory: at most two hashes at once, a bounded number of waiters, and a bounded wait. The
 * threads that files and names are looked up with stay free.
 */
export function passwords(): Passwords {
  const turn = turns(limits);
  let dummy: Promise<string> | null = null;
  const make = (password: string) => turn(async () => (await argon2()).hash(normalized(password), parameters));
  return {
    hash: make,
    async check(password, stored) {
      dummy ??= make('a password without an account').catch((error: unknown) => {
        dummy = null;
        throw error;
      });
      const against = stored ?? (await dummy);
      const right = await turn(async () => (await argon2()).verify(against, normalized(password)));
      return { right: right && stored !== null, stale: !against.startsWith(current) };
    },
  };
}

/** Runs work side by side up to a limit. The rest waits in order, for a bounded time; too many are refused. */
export function turns({ sideBySide, waitersMax, waitTimeoutMs }: typeof limits) {
  let running = 0;
  const waiters: (() => void)[] = [];
  const enter = async () => {
    if (running < sideBySide) {
      running += 1;
      return;
    }
    if (waiters.length >= waitersMax) throw passwordsBusy();
    await new Promise<void>((resolve, reject) => {
      const admit = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        waiters.splice(waiters.indexOf(admit), 1);
        reject(passwordsBusy());
      }, waitTimeoutMs);
      waiters.push(admit);
    });
  };
  return async <T>(work: () => Promise<T>): Promise<T> => {
    await enter();
    try {
      return await work();
    } finally {
      // A waiter takes the place over; it is free only when there is no waiter.
      const next = waiters.shift();
      if (next) next();
      else running -= 1;
    }
  };
}
