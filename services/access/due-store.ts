import type { CallContext, Database, SqlReader, Tx } from '@armature/runtime';
import { contention } from '@armature/runtime/errors';
import { withoutGrants } from './denial-store.ts';
import type { Changed, ChangePolicy } from './policy-store.ts';

/** At most so many grants, and so many denials, become one version of the policy. */
const dueBatch = 500;
const dueNamed = 5;

/** Applies what the passing of time changes: grants that begin or end, and denials that end. */
export function dueStore(change: ChangePolicy) {
  return {
    /** Begins and ends grants and denials that are due, by the database's clock. Returns how many. */
    applyDue: (db: Database) => async (call: CallContext) => {
      const { grants, denials } = await db.read(call, dueCounts);
      if (grants + denials === 0) return 0;
      return db.transaction(call, async (tx) => {
        // Only grants with an end time are due, and they never make their member count as an administrator. So where no
        // administrator is left, none was left before, and the change is not refused.
        if (grants > 0) return change(tx, call, ({ version }) => applyDue(tx, version), { onUnadministered: () => {} });
        const subjects = await dueDenials(tx);
        if (subjects.length === 0) return 0;
        const end = () => endDenials(tx, subjects);
        return change(tx, call, end, { onUnadministered: () => {}, denials: { subjects, denied: false } });
      });
    },
  };
}

const due = {
  ended: `state in ('LIVE', 'WAITING') and end_at <= utc_timestamp(6)`,
  begun: `state = 'WAITING' and start_at <= utc_timestamp(6)`,
  allowed: `ended_at is null and end_at <= utc_timestamp(6) and ${withoutGrants}`,
};

async function dueCounts(sql: SqlReader): Promise<{ grants: number; denials: number }> {
  const [row] = await sql.query<{ grants: number | string; denials: number | string }>(
    `select (select count(*) from role_grant where ${due.ended}) + (select count(*) from role_grant where ${due.begun})
       as grants, (select count(*) from denied_subject where ${due.allowed}) as denials`,
  );
  return { grants: Number(row?.grants ?? 0), denials: Number(row?.denials ?? 0) };
}

async function dueDenials(tx: Tx): Promise<string[]> {
  const rows = await tx.query<{ subject: string }>(
    `select subject from denied_subject where ${due.allowed} order by end_at limit ${dueBatch}`,
  );
  return rows.map(({ subject }) => subject);
}

/**
 * Ends these denials. Retries the transaction when one of them was renewed since it was read: that denial and its row of
 * the policy must stay.
 */
async function endDenials(tx: Tx, subjects: readonly string[]): Promise<Changed<number>> {
  const { affectedRows } = await tx.execute(
    `update denied_subject set ended_at = utc_timestamp(6) where subject in (?) and ${due.allowed}`,
    [subjects],
  );
  if (affectedRows !== subjects.length) throw contention(new Error('a denial was renewed since it was read'));
  return { words: `${affectedRows} accounts need no denial any more`, result: affectedRows, rows: null };
}

async function applyDue(tx: Tx, version: bigint): Promise<Changed<number>> {
  const select = (where: string, by: string) =>
    tx.query<{ grant_id: string; member: string; role: string }>(
      `select grant_id, member, role from role_grant where ${where} order by ${by} limit ${dueBatch}`,
    );
  const set = async (state: 'ENDED' | 'LIVE', grants: readonly { grant_id: string }[]) => {
    if (grants.length === 0) return;
    const ids = grants.map(({ grant_id }) => grant_id);
    await tx.execute('update role_grant set state = ?, version = ? where grant_id in (?)', [state, version, ids]);
  };
  // Ends before begins, because a grant may begin at the time at which another of the same role ends.
  const ended = await select(due.ended, 'end_at');
  await set('ENDED', ended);
  const begun = await select(due.begun, 'start_at');
  await set('LIVE', begun);
  const { affectedRows } = await tx.execute(
    `update denied_subject set ended_at = utc_timestamp(6) where ${due.allowed} limit ${dueBatch}`,
  );
  const words = [
    ...ended.map(({ member, role }) => `${role} of ${member} has ended`),
    ...begun.map(({ member, role }) => `${role} of ${member} has begun`),
    ...(affectedRows > 0 ? [`${affectedRows} accounts need no denial any more`] : []),
  ];
  const more = words.length - dueNamed;
  return {
    words: `${words.slice(0, dueNamed).join(', ')}${more > 0 ? ` and ${more} more` : ''}`,
    result: ended.length + begun.length + affectedRows,
    rows: null,
  };
}
