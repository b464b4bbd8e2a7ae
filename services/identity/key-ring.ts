import type { Call, Database, Sweeper } from '@armature/runtime';
import type { Provider } from 'oidc-provider';
import type { KeyPeriods } from './key.ts';
import { type SigningKey, turnKeys } from './key-store.ts';
import type { Sealing } from './sealing.ts';

export interface KeyRing {
  /** The keys and their provider. A request keeps the pair that it began with. */
  present(): { keys: readonly SigningKey[]; provider: Provider };
  /** Follows the keys as time and other instances change them. */
  sweeper: Sweeper;
}

/**
 * Keeps the provider and its signing keys together. Whenever the keys or their phases change there is a new provider;
 * sessions and tokens are in the database, so nobody notices.
 */
export async function openKeyRing(parts: {
  db: Database;
  sealing: Sealing;
  periods: KeyPeriods;
  call: Call;
  open: (keys: readonly SigningKey[]) => Provider;
}): Promise<KeyRing> {
  const { db, sealing, periods, open } = parts;
  const read = (call: Call) => db.transaction(call, (tx) => turnKeys(tx, sealing, periods));
  const signature = (keys: readonly SigningKey[]) => keys.map(({ kid, phase }) => `${kid} ${phase}`).join();
  const opened = (keys: readonly SigningKey[]) => ({ keys, provider: open(keys) });
  let present = opened(await read(parts.call));
  return {
    present: () => present,
    sweeper: {
      name: 'signing keys',
      // Well within the time for which a key is published before it is used.
      everyMs: Math.max(200, Math.min(15_000, (periods.leadS * 1_000) / 4)),
      async sweep(call) {
        const fresh = await read(call);
        if (signature(fresh) !== signature(present.keys)) present = opened(fresh);
        return 0;
      },
    },
  };
}
