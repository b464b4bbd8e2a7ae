import {
  type CallContext,
  type Database,
  newId,
  type Page,
  principalOf,
  type SqlReader,
  type Tx,
} from '@armature/runtime';
import { everyUser } from '@armature/runtime/authz';
import { contention } from '@armature/runtime/errors';
import type { PolicyRuleRow, RoleGrantRow } from './entities.ts';
import * as entities from './entities.ts';
import {
  grantEnded,
  grantExists,
  grantNotFound,
  grantTimesInvalid,
  policyChanged,
  roleInUse,
  roleNotFound,
} from './errors.ts';
import { describeGrant, describeRules, limits, type Period, periodProblem, type Rule } from './policy.ts';
import type { ChangePolicy } from './policy-store.ts';

/** A role, or a workload, with its rules by permission. */
export interface Role {
  name: string;
  rules: Omit<Rule, 'subject'>[];
  updatedAt: Date;
}

/** Grants that begin or end at one time, and denials that are over: so many become one version. */
const dueBatch = 500;
const dueNamed = 5;
/** No access token of a deactivated or erased account is older than this, by far; the account gets no other. */
const deniedHours = 24;
/** Where there are too many denials, those go that are older than this: tokens live for an hour at most. */
const deniedAtLeastHours = 2;
const evictedMax = 1_000;

export type AccessStore = ReturnType<typeof accessStore>;

/** Roles, grants and denied subjects. Everything that writes makes a version of the policy, or nothing. */
export function accessStore(change: ChangePolicy) {
  return {
    /** Throws POLICY_CHANGED unless `expected` is 0 or the present version, and what the policy refuses. */
    putRole(
      tx: Tx,
      call: CallContext,
      wish: { name: string; rules: readonly Omit<Rule, 'subject'>[]; expected: bigint },
    ) {
      const { name, expected } = wish;
      return change(tx, call, async ({ before, now }) => {
        if (expected !== 0n && expected !== before) throw policyChanged(expected, before);
        const rules = wish.rules.map((rule) => ({ ...rule, subject: name }));
        const words = describeRules(name, await replaceRules(tx, name, rules, now), rules);
        return { words, result: { name, rules: sorted(rules), updatedAt: now } satisfies Role };
      });
    },

    /** Answers the version without the role. Throws ROLE_NOT_FOUND and ROLE_IN_USE. */
    deleteRole(tx: Tx, call: CallContext, name: string): Promise<bigint> {
      return change(tx, call, async ({ version, now }) => {
        const role = await tx.em.findOne(entities.PolicyRole, { name });
        if (!role) throw roleNotFound(name);
        if (name === everyUser) throw roleInUse(name, 'every user');
        const holder = await tx.em.findOne(entities.RoleGrant, { role: name, state: { $ne: 'ENDED' } });
        if (holder) throw roleInUse(name, holder.member);
        // What the role itself was given ends with it; a workload stays, only its own rules go.
        if (name.startsWith('role:')) {
          await endGrantsOf(tx, name, { by: principalOf(call.caller), version, now });
        }
        await tx.em.nativeDelete(entities.PolicyRule, { subject: name });
        tx.em.remove(role);
        return { words: `${name} was deleted`, result: version };
      });
    },

    /** Throws ROLE_NOT_FOUND, GRANT_EXISTS, GRANT_TIMES_INVALID, and what the policy refuses. */
    grant(tx: Tx, call: CallContext, wish: { member: string; role: string } & Period): Promise<RoleGrantRow> {
      const { member, role, startAt, endAt } = wish;
      return change(tx, call, async ({ version, now }) => {
        const problem = periodProblem(wish, now);
        if (problem) throw grantTimesInvalid(problem);
        await requireRoles(tx, member.startsWith('role:') ? [role, member] : [role]);
        await refuseOverlap(tx, member, role, { startAt: startAt ?? now, endAt });
        await denyAgain(tx, member);
        const grant = tx.em.create(entities.RoleGrant, {
          grantId: newId(),
          member,
          role,
          state: startAt && startAt > now ? 'WAITING' : 'LIVE',
          startAt,
          endAt,
          grantedBy: principalOf(call.caller),
          createdAt: now,
          revokedAt: null,
          revokedBy: '',
          version,
        });
        return { words: describeGrant(member, role, wish), result: grant };
      });
    },

    /** Throws GRANT_NOT_FOUND, GRANT_ENDED and LAST_ADMINISTRATOR. */
    revoke(tx: Tx, call: CallContext, grantId: string): Promise<RoleGrantRow> {
      return change(tx, call, async ({ version, now }) => {
        const grant = await tx.em.findOne(entities.RoleGrant, { grantId });
        if (!grant) throw grantNotFound(grantId);
        if (grant.state === 'ENDED') throw grantEnded(grantId);
        const by = principalOf(call.caller);
        Object.assign(grant, { state: 'ENDED', revokedAt: now, revokedBy: by, version });
        return { words: `${grant.member} was taken ${grant.role}`, result: grant };
      });
    },

    /**
     * Denies an account everything, whatever it was granted; an erased one also loses that. It is a fact of
     * identity, so it is not refused, even when nobody is left to administer.
     */
    deny(tx: Tx, call: CallContext, subject: string, because: 'deactivated' | 'erased'): Promise<void> {
      const onUnadministered = () =>
        call.log.error({ subject, because }, 'the last administrator is denied: nobody may change roles and grants');
      const deny = async ({ version, now }: { version: bigint; now: Date }) => {
        // A denial without an end is one of the first policy's, and stays as it is.
        await tx.execute(
          `insert into denied_subject (subject, created_at, end_at)
           values (?, utc_timestamp(6), utc_timestamp(6) + interval ? hour)
           on duplicate key update created_at = if(end_at is null, created_at, values(created_at)),
             end_at = if(end_at is null, null, values(end_at)), ended_at = null`,
          [subject, deniedHours],
        );
        if (because === 'erased') await endGrantsOf(tx, subject, { by: principalOf(call.caller), version, now });
        return { words: `${subject} was ${because} and is denied everything`, result: undefined };
      };
      return makeRoom(tx).then((evicted) =>
        change(tx, call, deny, {
          onUnadministered,
          ...(evicted ? {} : { denials: { subjects: [subject], denied: true } }),
        }),
      );
    },

    /** Lets an account use again what it was granted. */
    allow(tx: Tx, call: CallContext, subject: string): Promise<void> {
      const allow = async () => {
        await tx.execute('delete from denied_subject where subject = ?', [subject]);
        return { words: `${subject} was reactivated`, result: undefined };
      };
      return change(tx, call, allow, { denials: { subjects: [subject], denied: false } });
    },

    /** Begins and ends grants whose time has come, by the database's clock. Answers how many. */
    applyDue: (db: Database) => async (call: CallContext) => {
      const { grants, denials } = await db.read(call, dueCounts);
      if (grants + denials === 0) return 0;
      return db.transaction(call, async (tx) => {
        // Nobody who administers for good can end here; if nobody was left before, time still goes on.
        if (grants > 0) return change(tx, call, ({ version }) => applyDue(tx, version), { onUnadministered: () => {} });
        const subjects = await dueDenials(tx);
        if (subjects.length === 0) return 0;
        const end = () => endDenials(tx, subjects);
        return change(tx, call, end, { onUnadministered: () => {}, denials: { subjects, denied: false } });
      });
    },

    replaceRules,
  };
}

/** Makes these the rules of the subject, and answers those that it had. */
async function replaceRules(tx: Tx, name: string, rules: readonly Rule[], now: Date): Promise<PolicyRuleRow[]> {
  const before = await tx.em.find(entities.PolicyRule, { subject: name }, { disableIdentityMap: true });
  await tx.em.upsert(entities.PolicyRole, { name, updatedAt: now });
  await tx.em.nativeDelete(entities.PolicyRule, { subject: name });
  await tx.em.insertMany(entities.PolicyRule, [...rules]);
  return before;
}

/**
 * Denies a deactivated account again whose denial has ended: with the role it would count as an administrator, although
 * it cannot sign in. The denial ends with the roles.
 */
async function denyAgain(tx: Tx, member: string): Promise<void> {
  await tx.execute('update denied_subject set ended_at = null where subject = ? and ended_at is not null', [member]);
}

/**
 * Takes out denials whose tokens have long expired when the list is full. Whether it took any out: the change then
 * follows from all rows.
 */
async function makeRoom(tx: Tx): Promise<boolean> {
  const [row] = await tx.query<{ denied: number | string }>(
    'select count(*) as denied from (select 1 from denied_subject where ended_at is null limit ?) as found',
    [limits.denied],
  );
  if (Number(row?.denied ?? 0) < limits.denied) return false;
  const { affectedRows } = await tx.execute(
    `update denied_subject set ended_at = utc_timestamp(6)
     where ended_at is null and end_at is not null and created_at < utc_timestamp(6) - interval ? hour
       and ${withoutGrants}
     order by end_at limit ?`,
    [deniedAtLeastHours, evictedMax],
  );
  return affectedRows > 0;
}

async function requireRoles(tx: Tx, names: readonly string[]): Promise<void> {
  const found = await tx.em.find(entities.PolicyRole, { name: { $in: [...names] } });
  const missing = names.find((name) => !found.some((role) => role.name === name));
  if (missing) throw roleNotFound(missing);
}

/** One member has a role once at any time, so that taking it away takes it away. */
async function refuseOverlap(tx: Tx, member: string, role: string, period: { startAt: Date; endAt: Date | null }) {
  const others = await tx.em.find(entities.RoleGrant, { member, role, state: { $ne: 'ENDED' } });
  const overlap = others.find(
    (other) =>
      (period.endAt === null || (other.startAt ?? other.createdAt) < period.endAt) &&
      (!other.endAt || other.endAt > period.startAt),
  );
  if (overlap) throw grantExists(member, role, overlap.grantId);
}

/** Ends what the member was given, also what was to come. */
async function endGrantsOf(
  tx: Tx,
  member: string,
  { by, version, now }: { by: string; version: bigint; now: Date },
): Promise<void> {
  const ended = { state: 'ENDED' as const, revokedAt: now, revokedBy: by, version };
  await tx.em.nativeUpdate(entities.RoleGrant, { member, state: { $ne: 'ENDED' } }, ended);
}

/**
 * The denial of an account that has roles ends with them, not by time. The account stays deactivated, and must not
 * count as an administrator once its denial is over.
 */
const withoutGrants = `not exists (
  select 1 from role_grant where member = denied_subject.subject and role_grant.state in ('LIVE', 'WAITING'))`;

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

/** Ends denials that are over; one that was made again meanwhile stays, and so does its row of the policy. */
async function endDenials(tx: Tx, subjects: readonly string[]): Promise<{ words: string; result: number }> {
  const { affectedRows } = await tx.execute(
    `update denied_subject set ended_at = utc_timestamp(6) where subject in (?) and ${due.allowed}`,
    [subjects],
  );
  if (affectedRows !== subjects.length) throw contention(new Error('a denial was made again meanwhile'));
  return { words: `${affectedRows} accounts need no denial any more`, result: affectedRows };
}

async function applyDue(tx: Tx, version: bigint): Promise<{ words: string; result: number }> {
  const select = (where: string, by: string) =>
    tx.query<{ grant_id: string; member: string; role: string }>(
      `select grant_id, member, role from role_grant where ${where} order by ${by} limit ${dueBatch}`,
    );
  const set = async (state: 'ENDED' | 'LIVE', grants: readonly { grant_id: string }[]) => {
    if (grants.length === 0) return;
    const ids = grants.map(({ grant_id }) => grant_id);
    await tx.execute('update role_grant set state = ?, version = ? where grant_id in (?)', [state, version, ids]);
  };
  // Ends before begins: one grant of a role may follow another at once.
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
  };
}

const sorted = <R extends { permission: string }>(rules: readonly R[]): R[] =>
  rules.toSorted((a, b) => (a.permission < b.permission ? -1 : 1));

/** One role more than the page holds, by name, in two queries. */
export async function listRoles(sql: SqlReader, { size, after }: Page<readonly [string]>): Promise<Role[]> {
  const where = after ? { name: { $gt: String(after[0]) } } : {};
  const roles = await sql.em.find(entities.PolicyRole, where, { orderBy: { name: 'asc' }, limit: size + 1 });
  const rules = await sql.em.find(entities.PolicyRule, { subject: { $in: roles.map(({ name }) => name) } });
  const bySubject = Map.groupBy(rules, ({ subject }) => subject);
  return roles.map(({ name, updatedAt }) => ({ name, updatedAt, rules: sorted(bySubject.get(name) ?? []) }));
}

export interface GrantFilter {
  /** Empty: any. */
  member: string;
  role: string;
  liveOnly: boolean;
}

/** One grant more than the page holds, newest first. */
export function listGrants(
  sql: SqlReader,
  { member, role, liveOnly }: GrantFilter,
  { size, after }: Page<readonly [string]>,
): Promise<RoleGrantRow[]> {
  const where = {
    ...(member ? { member } : {}),
    ...(role ? { role } : {}),
    ...(liveOnly ? { state: { $ne: 'ENDED' as const } } : {}),
    ...(after ? { grantId: { $lt: String(after[0]) } } : {}),
  };
  return sql.em.find(entities.RoleGrant, where, { orderBy: { grantId: 'desc' }, limit: size + 1 });
}

/** The live grants of these members, by which a decision is explained. */
export function liveGrantsOf(sql: SqlReader, members: readonly string[]): Promise<RoleGrantRow[]> {
  return sql.em.find(entities.RoleGrant, { member: { $in: [...members] }, state: 'LIVE' });
}
