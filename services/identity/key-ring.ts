import type { CallContext, Database, PeriodicJob } from '@armature/runtime';
import type { Provider } from 'oidc-provider';
import type { KeyPeriods } from './key.ts';
import { type SigningKey, turnKeys } from './key-store.ts';
import type { Sealing } from './sealing.ts';

/** The keys at one time, and the provider that signs with them, which is made when first asked for. */
export interface KeySet {
  keys: readonly SigningKey[];
  provider(): Promise<Provider>;
}

export interface KeyRing {
  /** A request keeps the set that it began with. */
  present(): KeySet;
  /** Takes the keys that the database has now. */
  follow(call: CallContext): Promise<void>;
  /** Follows the keys as time and other instances change them. */
  periodicJob: PeriodicJob;
}

/**
 * Keeps the provider and its signing keys together. Whenever the keys or their phases change there is a new provider;
 * sessions and tokens are in the database, so a change is not visible to clients.
 */
export async function openKeyRing(parts: {
  db: Database;
  sealing: Sealing;
  periods: KeyPeriods;
  call: CallContext;
  open: (keys: readonly SigningKey[]) => Promise<Provider>;
}): Promise<KeyRing> {
  const { db, sealing, periods, open } = parts;
  const read = (call: CallContext) => db.transaction(call, (tx) => turnKeys(tx, sealing, periods));
  let present = keySet(await read(parts.call), open);
  let last: Promise<void> = Promise.resolve();
  // One after another: a key that was read before its revocation must not come back.
  const follow = (call: CallContext): Promise<void> => {
    const next = last.then(async () => {
      const fresh = await read(call);
      if (phasesOf(fresh) !== phasesOf(present.keys)) present = keySet(fresh, open);
    });
    last = next.catch(() => undefined);
    return next;
  };
  return {
    present: () => present,
    follow,
    periodicJob: {
      name: 'signing keys',
      // Well within the time for which a key is published before it is used.
      everyMs: Math.max(200, Math.min(15_000, (periods.leadS * 1_000) / 4)),
      async run(call) {
        await follow(call);
        return 0;
      },
    },
  };
}

const phasesOf = (keys: readonly SigningKey[]): string => keys.map(({ kid, phase }) => `${kid} ${phase}`).join();

function keySet(keys: readonly SigningKey[], open: (keys: readonly SigningKey[]) => Promise<Provider>): KeySet {
  let opening: Promise<Provider> | null = null;
  return {
    keys,
    provider() {
      opening ??= open(keys).catch((error: unknown) => {
        opening = null;
        throw error;
      });
      return opening;
    },
  };
}
