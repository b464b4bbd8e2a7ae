import { type Background, type Database, isDuplicateKey } from '@armature/runtime';
import { type Adapter, errors, type Payload } from 'oidc-provider';
import type { ArtifactStore } from './artifact-store.ts';
import { sessionArtifacts } from './session-artifacts.ts';
import type { SessionStore } from './session-store.ts';

/** What has no end of its own is given one. */
const longestS = 366 * 86_400;

/** Finds a client's metadata by its id; undefined for one that is unknown or disabled. */
export type FindClient = (clientId: string) => Promise<Payload | undefined>;

/**
 * What the provider keeps, in MySQL. Consuming is atomic: of any number of requests with one code, one succeeds; the
 * others end the grant, because the client has sent only one of them. A refresh token may be consumed again within
 * `refreshReuseS` seconds, and each time it has the same successor (ADR 0049).
 */
export function adapters(
  db: Database,
  store: ArtifactStore,
  parts: { sessions: SessionStore; findClient: FindClient; refreshReuseS: number; background: Background },
): (model: string) => Adapter {
  const { findClient, refreshReuseS } = parts;
  const storesWithSession = sessionArtifacts(db, store, parts);
  const reuseS = (model: string) => (model === 'RefreshToken' ? refreshReuseS : 0);
  return (model) => ({
    async upsert(id, payload, expiresInS = longestS) {
      if (model === 'Client') throw new Error('clients are not made by the provider');
      // An assertion may be seen once. The provider looks first and stores then; the key decides.
      if (model === 'ReplayDetection') {
        await db
          .write(null, (sql) => store.insert(sql, model, id, payload, expiresInS))
          .catch((error: unknown) => {
            throw isDuplicateKey(error) ? new errors.InvalidClientAuth('the assertion was used before') : error;
          });
        return;
      }
      if (await storesWithSession(model, id, payload, expiresInS)) return;
      await db.write(null, (sql) => store.upsert(sql, model, id, payload, expiresInS));
    },

    async find(id) {
      if (model === 'Client') return findClient(id);
      const found = await db.read(null, (sql) => store.find(sql, model, id, reuseS(model)));
      return found ? { ...found.payload, ...(found.consumed ? { consumed: true } : {}) } : undefined;
    },

    async findByUid(uid) {
      return (await db.read(null, (sql) => store.findByUid(sql, model, uid))) ?? undefined;
    },

    findByUserCode: async () => undefined,

    async consume(id) {
      const first = await db.write(null, (sql) => store.consume(sql, model, id));
      if (first) return;
      const found = await db.read(null, (sql) => store.find(sql, model, id, reuseS(model)));
      if (found && !found.consumed) return;
      const grantId = found?.payload.grantId;
      if (grantId) await db.write(null, (sql) => store.revokeGrant(sql, grantId, null));
      throw new errors.InvalidGrant('used before');
    },

    async destroy(id) {
      await db.write(null, (sql) => store.destroy(sql, model, id));
    },

    async revokeByGrantId(grantId) {
      await db.write(null, (sql) => store.revokeGrant(sql, grantId, model));
    },
  });
}
