import { newId, type Sql, type Tx } from '@armature/runtime';
import { addressKey } from './account.ts';
import type { Letter, LetterKind, LetterState } from './letter.ts';
import type { MailPurpose } from './mail-token.ts';

/** A sender that has not reported within this is taken for dead. */
const leaseSeconds = 30;
const leaseBatch = 10;
/** No more mails go to one address within an hour, whoever asks for them. */
const perHourMax = 6;
const keptDays = 30;

/** A letter together with the token that proves the lease. */
export interface LeasedLetter extends Letter {
  leaseToken: bigint;
}

export type LetterStore = ReturnType<typeof letterStore>;

export function letterStore({ mailTokenS }: { mailTokenS: number }) {
  return {
    /**
     * Queues a mail. Two statements in any case: without `send`, or when the address has had enough, the row only says
     * that nothing was sent.
     */
    async queue(
      tx: Tx,
      letter: { kind: LetterKind; userId: string | null; recipient: string; send?: boolean },
    ): Promise<void> {
      const key = addressKey(letter.recipient);
      const [{ recent } = { recent: 0 }] = await tx.query<{ recent: string | number }>(
        `select count(*) as recent from letter
         where recipient_key = ? and state <> 'SKIPPED' and created_at > utc_timestamp(6) - interval 1 hour`,
        [key],
      );
      const send = letter.send !== false && Number(recent) < perHourMax;
      await tx.execute(
        `insert into letter (letter_id, kind, user_id, recipient, recipient_key, state, next_attempt_at, created_at,
           expires_at)
         values (?, ?, ?, ?, ?, ?, utc_timestamp(6), utc_timestamp(6), utc_timestamp(6) + interval ? second)`,
        [newId(), letter.kind, letter.userId, letter.recipient, key, send ? 'QUEUED' : 'SKIPPED', mailTokenS],
      );
    },

    /** Uses up the link of a letter: the account it is about, and the address it went to; null when it no longer works. */
    async redeem(
      tx: Tx,
      purpose: MailPurpose,
      letterId: string,
    ): Promise<{ userId: string; recipientKey: string } | null> {
      const { affectedRows } = await tx.execute(
        `update letter set used_at = utc_timestamp(6)
         where letter_id = ? and kind = ? and state <> 'SKIPPED' and used_at is null and expires_at > utc_timestamp(6)`,
        [letterId, purpose],
      );
      if (affectedRows === 0) return null;
      const [row] = await tx.query<{ user_id: string; recipient_key: string }>(
        'select user_id, recipient_key from letter where letter_id = ?',
        [letterId],
      );
      return row ? { userId: row.user_id, recipientKey: row.recipient_key } : null;
    },

    /** Ends all links of one purpose that were mailed for an account. */
    async revokeLinks(tx: Tx, userId: string, purpose: MailPurpose): Promise<void> {
      await tx.execute(
        'update letter set used_at = utc_timestamp(6) where user_id = ? and kind = ? and used_at is null',
        [userId, purpose],
      );
    },

    async forget(tx: Tx, userId: string): Promise<void> {
      await tx.execute('delete from letter where user_id = ?', [userId]);
    },

    /** Takes due letters for this sender alone; each gets a new, higher token. */
    async leaseDue(tx: Tx): Promise<LeasedLetter[]> {
      const rows = await tx.query<LetterRow>(
        `select letter_id, kind, user_id, recipient, attempts, lease_token from letter
         where state = 'QUEUED' and next_attempt_at <= utc_timestamp(6)
           and (lease_expires_at is null or lease_expires_at < utc_timestamp(6))
         order by next_attempt_at limit ${leaseBatch} for update skip locked`,
      );
      if (rows.length === 0) return [];
      await tx.execute(
        `update letter set lease_token = lease_token + 1,
           lease_expires_at = utc_timestamp(6) + interval ${leaseSeconds} second where letter_id in (?)`,
        [rows.map((row) => row.letter_id)],
      );
      return rows.map((row) => ({
        letterId: row.letter_id,
        kind: row.kind,
        userId: row.user_id,
        recipient: row.recipient,
        attempts: row.attempts,
        leaseToken: BigInt(row.lease_token) + 1n,
      }));
    },

    /** Records an attempt. False when the lease has gone to somebody else: then nothing is changed. */
    async record(
      sql: Sql,
      { letterId, leaseToken }: LeasedLetter,
      result: { state: LetterState; attempts: number; lastError: string; waitMs: number },
    ): Promise<boolean> {
      const { affectedRows } = await sql.execute(
        `update letter set state = ?, attempts = ?, last_error = ?, lease_expires_at = null,
           next_attempt_at = utc_timestamp(6) + interval ? microsecond
         where letter_id = ? and lease_token = ? and state = 'QUEUED'`,
        [result.state, result.attempts, result.lastError.slice(0, 500), result.waitMs * 1_000, letterId, leaseToken],
      );
      return affectedRows === 1;
    },

    async purge(sql: Sql): Promise<number> {
      const skipped = await sql.execute(
        "delete from letter where state = 'SKIPPED' and expires_at < utc_timestamp(6) - interval 1 day limit 500",
      );
      const past = await sql.execute(
        `delete from letter where expires_at < utc_timestamp(6) - interval ${keptDays} day limit 500`,
      );
      return skipped.affectedRows + past.affectedRows;
    },
  };
}

interface LetterRow {
  letter_id: string;
  kind: LetterKind;
  user_id: string | null;
  recipient: string;
  attempts: number;
  lease_token: string | number;
}
