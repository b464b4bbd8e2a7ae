import type { SqlReader } from '@armature/runtime';
import { isVerified } from './account.ts';
import type { ArtifactStore } from './artifact-store.ts';
import type { SessionStore } from './session-store.ts';
import type { AccountStore } from './store.ts';

/** All data of a person that this service stores, as one JSON object without secrets. Throws USER_NOT_FOUND. */
export async function exportOf(
  sql: SqlReader,
  { store, artifacts, sessions }: { store: AccountStore; artifacts: ArtifactStore; sessions: SessionStore },
  userId: string,
): Promise<string> {
  const account = await store.find(sql, userId);
  const loginSessions = await sessions.list(sql, userId, { size: 1_000, after: null });
  const grants = await artifacts.grantsOf(sql, userId);
  const signIns = await store.signIns(sql, userId);
  const since = (text: string) => `${text.replace(' ', 'T')}Z`;
  return JSON.stringify({
    account: {
      user_id: account.userId,
      email: account.email,
      email_verified: isVerified(account),
      sign_in_email: account.verifiedEmail,
      display_name: account.displayName,
      state: account.state,
      create_time: account.createdAt,
      update_time: account.updatedAt,
    },
    sessions: loginSessions.map(({ signedInAt, lastUsedAt, clientIds }) => ({
      since: signedInAt,
      last_use_time: lastUsedAt,
      client_ids: clientIds,
    })),
    grants: grants.map((grant) => ({ client_id: grant.clientId, since: since(grant.since) })),
    sign_ins: signIns.map((one) => ({ client_id: one.clientId, source: one.source, time: since(one.at) })),
  });
}
