import type { SqlReader } from '@armature/runtime';
import { isVerified } from './account.ts';
import type { ArtifactStore } from './artifact-store.ts';
import type { AccountStore } from './store.ts';

/** All data of a person that this service stores, as one JSON object without secrets. Throws USER_NOT_FOUND. */
export async function exportOf(
  sql: SqlReader,
  { store, artifacts }: { store: AccountStore; artifacts: ArtifactStore },
  userId: string,
): Promise<string> {
  const account = await store.find(sql, userId);
  const kept = await artifacts.ofUser(sql, userId);
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
    sessions: kept.filter(({ model }) => model === 'Session').map((session) => ({ since: since(session.since) })),
    grants: kept
      .filter(({ model }) => model === 'Grant')
      .map((grant) => ({ client_id: grant.clientId, since: since(grant.since) })),
    sign_ins: signIns.map((one) => ({ client_id: one.clientId, source: one.source, time: since(one.at) })),
  });
}
