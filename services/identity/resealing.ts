import type { CallContext, Database, PeriodicJob } from '@armature/runtime';
import type { ArtifactStore, SealedArtifact } from './artifact-store.ts';
import type { Sealing } from './sealing.ts';

const batch = 100;
const everyMs = 10_000;

/**
 * Seals artifacts again with the current version of the secret, a bounded number at a time, so that an earlier version
 * can be retired. Signing keys are sealed again when they are read (`turnKeys`). Artifacts that cannot be opened are
 * left until they expire.
 */
export function resealing(db: Database, store: ArtifactStore, { otherVersions }: Sealing): PeriodicJob {
  let version = 0;
  let after: SealedArtifact | null = null;
  let unreadable = 0;

  /** Goes on with the next version; after the last one with the first, at the next time of the job. */
  const next = (call: CallContext): number => {
    if (unreadable > 0) {
      const sealedBy = otherVersions[version]?.toString('hex');
      call.log.warn({ unreadable, sealedBy }, 'artifacts cannot be opened by any known version of the secret');
    }
    [after, unreadable] = [null, 0];
    version = (version + 1) % otherVersions.length;
    return version === 0 ? 0 : 1;
  };

  return {
    name: 'sealing again',
    everyMs,
    async run(call) {
      const sealedBy = otherVersions[version];
      if (!sealedBy) return next(call);
      const found = await db.read(call, (sql) => store.sealedBy(sql, sealedBy, after, batch));
      if (found.length === 0) return next(call);
      const resealed = await db.transaction(call, (tx) => store.reseal(tx, found));
      unreadable += found.length - resealed;
      after = found.at(-1) ?? null;
      return found.length;
    },
  };
}
