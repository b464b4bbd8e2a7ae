import type { SqlReader, Tx } from '@armature/runtime';
import { jobQueue } from '@armature/runtime/jobs';
import { addressKey } from './account.ts';
import { type EmailKind, purposeOf, securityKinds } from './email.ts';
import type { MailPurpose } from './mail-token.ts';

/**
 * Most e-mails to one address within an hour. Each group of kinds has a budget of its own: registrations of an address
 * use up none of its resets, and requests without a token none of its security e-mails.
 */
const budgets: readonly { kinds: readonly EmailKind[]; perHourMax: number }[] = [
  { kinds: ['verify_email', 'address_taken'], perHourMax: 6 },
  { kinds: ['reset_password'], perHourMax: 6 },
  { kinds: securityKinds, perHourMax: 10 },
];

function budgetOf(kind: EmailKind) {
  const budget = budgets.find(({ kinds }) => kinds.includes(kind));
  if (!budget) throw new Error(`e-mails of the kind ${kind} have no budget`);
  return budget;
}

/** A row of the table `letter`, as far as sending needs it. */
export interface EmailRow {
  letter_id: string;
  kind: EmailKind;
  recipient: string;
}

/** The Message-ID of an e-mail: the same at every attempt. */
export const messageIdOf = (emailId: string): string => `<${emailId}@identity.armature.local>`;

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

/** An e-mail with a link: its account, the address it went to, and when it was queued, as the database writes it. */
export interface LinkEmail {
  userId: string;
  recipientKey: string;
  createdAt: string;
}

const linkValid = `letter_id = ? and kind = ? and state <> 'SKIPPED' and used_at is null
  and expires_at > utc_timestamp(6)`;

/** What links in e-mails may still do. */
const links = {
  /** The e-mail of a link; null when the link is not valid. Does not use it up. */
  async redeemable(sql: SqlReader, purpose: MailPurpose, emailId: string): Promise<LinkEmail | null> {
    const [row] = await sql.query<LinkRow>(`select ${linkColumns} from letter where ${linkValid}`, [emailId, purpose]);
    return toLinkEmail(row);
  },

  /** Uses up the link of an e-mail. Null when the link is not valid. */
  async redeem(tx: Tx, purpose: MailPurpose, emailId: string): Promise<LinkEmail | null> {
    const { affectedRows } = await tx.execute(`update letter set used_at = utc_timestamp(6) where ${linkValid}`, [
      emailId,
      purpose,
    ]);
    if (affectedRows === 0) return null;
    const [row] = await tx.query<LinkRow>(`select ${linkColumns} from letter where letter_id = ?`, [emailId]);
    return toLinkEmail(row);
  },

  /** Revokes the links of one purpose that were sent for an account, `since` a time or at any time. */
  async revokeLinks(tx: Tx, userId: string, purpose: MailPurpose, since = '1970-01-01'): Promise<void> {
    await tx.execute(
      `update letter set used_at = utc_timestamp(6)
       where user_id = ? and kind = ? and created_at >= ? and used_at is null`,
      [userId, purpose, since],
    );
  },
};

const linkColumns = 'user_id, recipient_key, cast(created_at as char) as created_at';

interface LinkRow {
  user_id: string;
  recipient_key: string;
  created_at: string;
}

const toLinkEmail = (row: LinkRow | undefined): LinkEmail | null =>
  row ? { userId: row.user_id, recipientKey: row.recipient_key, createdAt: row.created_at } : null;

export type EmailStore = ReturnType<typeof emailStore>;

/** `mailTokenS` and `undoTokenS`: how long links are valid, seconds; the second of links that undo a change. */
export function emailStore({ mailTokenS, undoTokenS }: { mailTokenS: number; undoTokenS: number }) {
  const queue = emailQueue();
  const linkS = (kind: EmailKind) => (kind === 'address_changing' ? undoTokenS : mailTokenS);
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
      const { kinds, perHourMax } = budgetOf(email.kind);
      const [{ recent } = { recent: 0 }] = await tx.query<{ recent: string | number }>(
        `select count(*) as recent from letter
         where recipient_key = ? and kind in (?) and state <> 'SKIPPED'
           and created_at > utc_timestamp(6) - interval 1 hour`,
        [key, kinds],
      );
      await queue.enqueue(tx, {
        columns: {
          kind: email.kind,
          user_id: email.userId,
          recipient: email.recipient,
          recipient_key: key,
          expires_at: { secondsFromNow: linkS(email.kind) },
        },
        // An e-mail whose link has expired is of no use.
        ...(purposeOf(email.kind) && { maxElapsedMs: linkS(email.kind) * 1000 }),
        priority: kinds === securityKinds ? 'high' : 'normal',
        skipped: email.send === false || Number(recent) >= perHourMax,
      });
    },

    ...links,

    /** Deletes all e-mails about an account, and returns their Message-IDs. */
    async forget(tx: Tx, userId: string): Promise<string[]> {
      const rows = await tx.query<{ letter_id: string }>('select letter_id from letter where user_id = ?', [userId]);
      await tx.execute('delete from letter where user_id = ?', [userId]);
      return rows.map((row) => messageIdOf(row.letter_id));
    },
  };
}
