import type { Background, Database, Tx } from '@armature/runtime';
import { errors } from 'oidc-provider';
import type { ArtifactStore, SessionPayload } from './artifact-store.ts';
import { fingerprint } from './sealing.ts';
import type { SessionStore } from './session-store.ts';

const timeoutMs = 10_000;

/** The id of the session that an artifact ends with; undefined for one that is stored by itself. */
function sessionUidOf(model: string, { uid, accountId, sessionUid }: SessionPayload): string | undefined {
  if (model === 'Session') return accountId ? uid : undefined;
  return model === 'RefreshToken' ? sessionUid : undefined;
}

/**
 * Stores the session of a person, which each visit saves again, and its refresh tokens. When the session has ended
 * meanwhile nothing is stored, and a token is refused. Returns false for all other artifacts.
 */
export function sessionArtifacts(
  db: Database,
  store: ArtifactStore,
  { sessions, background }: { sessions: SessionStore; background: Background },
) {
  const continues = (tx: Tx, model: string, sessionHash: Buffer, payload: SessionPayload, expiresInS: number) => {
    if (model !== 'Session') return sessions.use(tx, sessionHash);
    const { accountId: userId = '', authorizations = {}, loginTs } = payload;
    const signedInAtS = loginTs ?? Math.floor(Date.now() / 1_000);
    return sessions.save(tx, sessionHash, { userId, clientIds: Object.keys(authorizations), signedInAtS, expiresInS });
  };

  return async (model: string, id: string, payload: SessionPayload, expiresInS: number): Promise<boolean> => {
    const uid = sessionUidOf(model, payload);
    if (uid === undefined) return false;
    const call = background(`store ${model}`, timeoutMs);
    try {
      await db.transaction(call, async (tx) => {
        if (await continues(tx, model, fingerprint(uid), payload, expiresInS)) {
          await store.upsert(tx, model, id, payload, expiresInS);
        } else if (model === 'RefreshToken') {
          throw new errors.InvalidGrant('the session has ended');
        }
      });
    } finally {
      call.close();
    }
    return true;
  };
}
