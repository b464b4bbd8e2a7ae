import type { Tx } from '@armature/runtime';
import { jobQueue } from '@armature/runtime/jobs';
import { addressKey } from './account.ts';
import { type EmailKind, purposeOf } from './email.ts';
import type { MailPurpose } from './mail-token.ts';

/** Most e-mails to one address within an hour, from all requests together. */
const perHourMax = 6;

/** A row of the table `letter`, as far as sending needs it. */
export interface EmailRow {
  letter_id: string;
  kind: EmailKind;
  recipient: string;
}

/** The queue of e-mails. Its table also holds what their links may still do. */
const emailQueue = () =>
  jobQueue<EmailRow>({
    name: 'mail',
    table: 'letter',
    idColumn: 'letter_id',
    doneState: 'SENT',
    retry: { maxAttempts: 14, initialBackoffMs: 1_000, maxBackoffMs: 3_600_000, maxElapsedMs: 86_400_000 },
    retention: { column: 'expires_at', days: { SKIPPED: 1, QUEUED: 30, SENT: 30, DEAD: 30 } },
  });

export type EmailStore = ReturnType<typeof emailStore>;

export function emailStore({ mailTokenS }: { mailTokenS: number }) {
  const queue = emailQueue();
  return {
    queue,

    /**
     * Queues an e-mail. Two statements in any case: without `send`, or when the address has had enough, the row only
     * says that nothing was sent.
     */
    async enqueue(
      tx: Tx,
      email: { kind: EmailKind; userId: string | null; recipient: string; send?: boolean },
    ): Promise<void> {
      const key = addressKey(email.recipient);
      const [{ recent } = { recent: 0 }] = await tx.query<{ recent: string | number }>(
        `select count(*) as recent from letter
         where recipient_key = ? and state <> 'SKIPPED' and created_at > utc_timestamp(6) - interval 1 hour`,
        [key],
      );
      await queue.enqueue(tx, {
        columns: {
          kind: email.kind,
          user_id: email.userId,
          recipient: email.recipient,
          recipient_key: key,
          expires_at: { secondsFromNow: mailTokenS },
        },
        // An e-mail whose link has expired is of no use.
        ...(purposeOf(email.kind) && { maxElapsedMs: mailTokenS * 1000 }),
        skipped: email.send === false || Number(recent) >= perHourMax,
      });
    },

    /** Uses up the link of an e-mail. Returns its account and the address it went to; null when the link is not valid. */
    async redeem(
      tx: Tx,
      purpose: MailPurpose,
      emailId: string,
    ): Promise<{ userId: string; recipientKey: string } | null> {
      const { affectedRows } = await tx.execute(
        `update letter set used_at = utc_timestamp(6)
         where letter_id = ? and kind = ? and state <> 'SKIPPED' and used_at is null and expires_at > utc_timestamp(6)`,
        [emailId, purpose],
      );
      if (affectedRows === 0) return null;
      const [row] = await tx.query<{ user_id: string; recipient_key: string }>(
        'select user_id, recipient_key from letter where letter_id = ?',
        [emailId],
      );
      return row ? { userId: row.user_id, recipientKey: row.recipient_key } : null;
    },

    /** Revokes all links of one purpose that were sent for an account. */
    async revokeLinks(tx: Tx, userId: string, purpose: MailPurpose): Promise<void> {
      await tx.execute(
        'update letter set used_at = utc_timestamp(6) where user_id = ? and kind = ? and used_at is null',
        [userId, purpose],
      );
    },

    /** Deletes all e-mails about an account. */
    async forget(tx: Tx, userId: string): Promise<void> {
      await tx.execute('delete from letter where user_id = ?', [userId]);
    },
  };
}
