import { type Page, type Sql, type SqlReader, type Tx, utcDate } from '@armature/runtime';
import { sessionNotFound } from './errors.ts';

/** How long an ended session is remembered, so that no request that is in progress stores it again. */
const endedKeptS = 3_600;
const purgeBatch = 500;

/** A session as its person sees it. */
export interface LoginSession {
  sessionId: string;
  clientIds: string[];
  signedInAt: Date;
  signedInAtText: string;
  lastUsedAt: Date;
}

export type SessionStore = ReturnType<typeof sessionStore>;

/**
 * The sessions of people, beside their artifacts, which are sealed. A session is named by the hash of the id that tokens
 * refer to it by. Its row is locked before the artifact is changed, so that a session which has ended stays ended.
 */
export const sessionStore = () => ({ ...uses, ...ends, ...lists });

const uses = {
  /** Records a visit with a session. False: it has ended, and must not be stored. Locks the session. */
  async save(
    tx: Tx,
    sessionHash: Buffer,
    session: { userId: string; clientIds: readonly string[]; signedInAtS: number; expiresInS: number },
  ): Promise<boolean> {
    if (await hasEnded(tx, sessionHash)) return false;
    await tx.execute(
      `insert into login_session (session_hash, user_id, client_ids, signed_in_at, last_used_at, expires_at)
       values (?, ?, ?, ?, utc_timestamp(6), utc_timestamp(6) + interval ? second)
       on duplicate key update user_id = values(user_id), client_ids = values(client_ids),
         signed_in_at = values(signed_in_at), last_used_at = values(last_used_at), expires_at = values(expires_at)`,
      [
        sessionHash,
        session.userId,
        session.clientIds.join(' '),
        utcText(new Date(session.signedInAtS * 1_000)),
        session.expiresInS,
      ],
    );
    return true;
  },

  /** Records that a program of the session gets a token. False: the session has ended. Locks the session. */
  async use(tx: Tx, sessionHash: Buffer): Promise<boolean> {
    if (await hasEnded(tx, sessionHash)) return false;
    await tx.execute('update login_session set last_used_at = utc_timestamp(6) where session_hash = ?', [sessionHash]);
    return true;
  },
};

const ends = {
  /** Throws SESSION_NOT_FOUND, also for the session of another person and one that has ended. Locks the session. */
  async end(tx: Tx, userId: string, sessionId: string): Promise<Buffer> {
    const sessionHash = Buffer.from(sessionId, 'base64url');
    const [row] = await tx.query<{ user_id: string; ended: number }>(
      'select user_id, ended_at is not null as ended from login_session where session_hash = ? for update',
      [sessionHash],
    );
    if (row?.user_id !== userId || row.ended === 1) throw sessionNotFound(sessionId);
    await tx.execute(
      `update login_session set ended_at = utc_timestamp(6), expires_at = utc_timestamp(6) + interval ${endedKeptS} second
       where session_hash = ?`,
      [sessionHash],
    );
    return sessionHash;
  },

  async endAll(tx: Tx, userId: string): Promise<void> {
    await tx.execute(
      `update login_session set ended_at = utc_timestamp(6), expires_at = utc_timestamp(6) + interval ${endedKeptS} second
       where user_id = ? and ended_at is null`,
      [userId],
    );
  },

  /** Deletes sessions that are over, a bounded number at a time. */
  async purge(sql: Sql): Promise<number> {
    const { affectedRows } = await sql.execute(
      `delete from login_session where expires_at < utc_timestamp(6) limit ${purgeBatch}`,
    );
    return affectedRows;
  },
};

const lists = {
  /** Sessions that can be continued, the latest sign-in first; one row more than the page, when there is one. */
  async list(
    sql: SqlReader,
    userId: string,
    page: Pick<Page<[string, string]>, 'size' | 'after'>,
  ): Promise<LoginSession[]> {
    const [at, id] = page.after ?? [];
    const rest = at === undefined ? '' : 'and (signed_in_at < ? or (signed_in_at = ? and session_hash < ?))';
    const rows = await sql.query<SessionRow>(
      `select session_hash, client_ids, cast(signed_in_at as char) as signed_in_text,
         cast(last_used_at as char) as last_used_text
       from login_session
       where user_id = ? and ended_at is null ${rest} and exists (
         select 1 from artifact where artifact.uid_hash = login_session.session_hash and artifact.model = 'Session'
           and artifact.expires_at > utc_timestamp(6))
       order by signed_in_at desc, session_hash desc limit ?`,
      [userId, ...(at === undefined ? [] : [at, at, Buffer.from(String(id), 'base64url')]), page.size + 1],
    );
    return rows.map((row) => ({
      sessionId: row.session_hash.toString('base64url'),
      clientIds: row.client_ids.split(' ').filter(Boolean),
      signedInAt: utcDate(row.signed_in_text),
      signedInAtText: row.signed_in_text,
      lastUsedAt: utcDate(row.last_used_text),
    }));
  },
};

interface SessionRow {
  session_hash: Buffer;
  client_ids: string;
  signed_in_text: string;
  last_used_text: string;
}

/** Whether a session has ended, under the lock of its row. */
async function hasEnded(tx: Tx, sessionHash: Buffer): Promise<boolean> {
  const [row] = await tx.query<{ ended: number }>(
    'select ended_at is not null as ended from login_session where session_hash = ? for update',
    [sessionHash],
  );
  return row?.ended === 1;
}

const utcText = (time: Date): string => time.toISOString().slice(0, -1).replace('T', ' ');
