import { SigningKeyServiceContract } from '@armature/proto/identity/v1/contract.ts';
import { type SigningKey, SigningKeyPhase } from '@armature/proto/identity/v1/signing_keys.ts';
import { type Database, implement, principalOf, runIdempotent } from '@armature/runtime';
import type { KeyPhase } from './key.ts';
import type { KeyRing } from './key-ring.ts';
import { type ListedKey, listKeys, revokeKey } from './key-store.ts';
import type { Sealing } from './sealing.ts';

/** The methods of operators for signing keys. */
export const signingKeyService = ({ db, ring, sealing }: { db: Database; ring: KeyRing; sealing: Sealing }) =>
  implement(SigningKeyServiceContract, {
    async listSigningKeys(_message, call) {
      return { signingKeys: (await db.read(call, listKeys)).map(toSigningKey) };
    },

    async revokeSigningKey({ kid }, call) {
      const response = await runIdempotent(db, call, async (tx) => {
        await revokeKey(tx, sealing, kid);
        return { signingKeys: (await listKeys(tx)).map(toSigningKey) };
      });
      call.log.warn({ kid, by: principalOf(call.caller) }, 'a signing key was revoked');
      await ring.follow(call);
      return response;
    },
  });

const phases: Record<KeyPhase, SigningKeyPhase> = {
  upcoming: SigningKeyPhase.SIGNING_KEY_PHASE_UPCOMING,
  current: SigningKeyPhase.SIGNING_KEY_PHASE_CURRENT,
  retired: SigningKeyPhase.SIGNING_KEY_PHASE_RETIRED,
};

const toSigningKey = ({ kid, phase, activatesAt }: ListedKey): SigningKey => ({
  kid,
  phase: phases[phase],
  activateTime: activatesAt,
});
