import { type CallContext, principalOf, type Tx } from '@armature/runtime';
import { endGrantsOf } from './grant-store.ts';
import { limits } from './policy.ts';
import type { ChangePolicy } from './policy-store.ts';

/** Longer than the lifetime of any access token. A deactivated or erased account gets no new token. */
const deniedHours = 24;
/** When the list of denials is full, denials older than this end early: a token lives for an hour at most. */
const deniedAtLeastHours = 2;
const evictedMax = 1_000;

/**
 * Denies accounts that were deactivated or erased, and ends these denials. `deniedMax` is the length of a full list.
 */
export function denialStore(change: ChangePolicy, deniedMax: number = limits.denied) {
  return {
    /**
     * Denies an account every permission, whatever its grants. The grants of an erased account end. Identity has
     * already deactivated or erased the account, so this succeeds even when no administrator is left.
     */
    deny(tx: Tx, call: CallContext, subject: string, because: 'deactivated' | 'erased'): Promise<void> {
      const onUnadministered = () =>
        call.log.error({ subject, because }, 'the last administrator is denied: no user may change roles and grants');
      const deny = async ({ version, now }: { version: bigint; now: Date }) => {
        // A denial without an end comes from the seed file and never ends.
        await tx.execute(
          `insert into denied_subject (subject, created_at, end_at)
           values (?, utc_timestamp(6), utc_timestamp(6) + interval ? hour)
           on duplicate key update created_at = if(end_at is null, created_at, values(created_at)),
             end_at = if(end_at is null, null, values(end_at)), ended_at = null`,
          [subject, deniedHours],
        );
        if (because === 'erased') await endGrantsOf(tx, subject, { by: principalOf(call.caller), version, now });
        return { words: `${subject} was ${because} and is denied everything`, result: undefined, rows: null };
      };
      return makeRoom(tx, deniedMax).then((evicted) =>
        change(tx, call, deny, {
          onUnadministered,
          ...(evicted ? {} : { denials: { subjects: [subject], denied: true } }),
        }),
      );
    },

    /** Ends the denial of a reactivated account: its grants count again. */
    allow(tx: Tx, call: CallContext, subject: string): Promise<void> {
      const allow = async () => {
        await tx.execute('delete from denied_subject where subject = ?', [subject]);
        return { words: `${subject} was reactivated`, result: undefined, rows: null };
      };
      return change(tx, call, allow, { denials: { subjects: [subject], denied: false } });
    },
  };
}

/**
 * Ends denials of accounts whose tokens have long expired, when the list of denials is full. Returns whether it ended
 * any: the policy must then be compiled from all rows.
 */
async function makeRoom(tx: Tx, deniedMax: number): Promise<boolean> {
  const [row] = await tx.query<{ denied: number | string }>(
    'select count(*) as denied from (select 1 from denied_subject where ended_at is null limit ?) as found',
    [deniedMax],
  );
  if (Number(row?.denied ?? 0) < deniedMax) return false;
  const { affectedRows } = await tx.execute(
    `update denied_subject set ended_at = utc_timestamp(6)
     where ended_at is null and end_at is not null and created_at < utc_timestamp(6) - interval ? hour
       and ${withoutGrants}
     order by end_at limit ?`,
    [deniedAtLeastHours, evictedMax],
  );
  return affectedRows > 0;
}

/**
 * The denial of an account that has roles ends with the roles, not by time: the account stays deactivated, and must not
 * count as an administrator once its denial has ended.
 */
export const withoutGrants = `not exists (
  select 1 from role_grant where member = denied_subject.subject and role_grant.state in ('LIVE', 'WAITING'))`;
