import { SessionServiceContract } from '@armature/proto/identity/v1/contract.ts';
import type { Session } from '@armature/proto/identity/v1/sessions.ts';
import { closePage, type Database, implement, openPage, runIdempotent } from '@armature/runtime';
import type { ArtifactStore } from './artifact-store.ts';
import type { LoginSession, SessionStore } from './session-store.ts';

const pageSize = 50;

/** The methods by which people see and end their sessions. */
export const sessionService = ({
  db,
  sessions,
  artifacts,
}: {
  db: Database;
  sessions: SessionStore;
  artifacts: ArtifactStore;
}) =>
  implement(SessionServiceContract, {
    async listSessions(message, call) {
      const { userId } = message;
      const page = openPage<[string, string]>(message, pageSize, ['sessions', userId]);
      const rows = await db.read(call, (sql) => sessions.list(sql, userId, page));
      const { items, nextPageToken } = closePage(rows, page, ({ signedInAtText, sessionId }): [string, string] => [
        signedInAtText,
        sessionId,
      ]);
      return { sessions: items.map(toSession), nextPageToken };
    },

    async revokeSession({ userId, sessionId }, call) {
      return runIdempotent(db, call, async (tx) => {
        await artifacts.revokeSession(tx, await sessions.end(tx, userId, sessionId));
        return {};
      });
    },
  });

const toSession = ({ sessionId, clientIds, signedInAt, lastUsedAt }: LoginSession): Session => ({
  sessionId,
  clientIds,
  signInTime: signedInAt,
  lastUseTime: lastUsedAt,
});
