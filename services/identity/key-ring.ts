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
  return {
    present: () => present,
    periodicJob: {
      name: 'signing keys',
      // Well within the time for which a key is published before it is used.
      everyMs: Math.max(200, Math.min(15_000, (periods.leadS * 1_000) / 4)),
      async run(call) {
        const fresh = await read(call);
        if (phasesOf(fresh) !== phasesOf(present.keys)) present = keySet(fresh, open);
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
