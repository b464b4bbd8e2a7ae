import { type CallContext, newId, type Page, principalOf, type SqlReader, type Tx } from '@armature/runtime';
import type { RoleGrantRow } from './entities.ts';
import * as entities from './entities.ts';
import { grantEnded, grantExists, grantNotFound, grantTimesInvalid, roleNotFound } from './errors.ts';
import { noRows } from './giving.ts';
import { describeGrant, type Period, periodProblem } from './policy.ts';
import type { ChangePolicy } from './policy-store.ts';

/** Grants roles to members and revokes them. */
export function grantStore(change: ChangePolicy) {
  return {
    /** Throws ROLE_NOT_FOUND, GRANT_EXISTS, GRANT_TIMES_INVALID, and the reasons of ChangePolicy. */
    grant(tx: Tx, call: CallContext, request: { member: string; role: string } & Period): Promise<RoleGrantRow> {
      const { member, role, startAt, endAt } = request;
      return change(tx, call, async ({ version, now }) => {
        const problem = periodProblem(request, now);
        if (problem) throw grantTimesInvalid(problem);
        await requireRoles(tx, member.startsWith('role:') ? [role, member] : [role]);
        await rejectOverlap(tx, member, role, { startAt: startAt ?? now, endAt });
        await renewDenial(tx, member);
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
        const rows = { given: { rules: [], grants: [{ member, role }] }, taken: noRows };
        return { words: describeGrant(member, role, request), result: grant, rows };
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
        const rows = { given: noRows, taken: { rules: [], grants: [{ member: grant.member, role: grant.role }] } };
        return { words: `${grant.member} was taken ${grant.role}`, result: grant, rows };
      });
    },
  };
}

async function requireRoles(tx: Tx, names: readonly string[]): Promise<void> {
  const found = await tx.em.find(entities.PolicyRole, { name: { $in: [...names] } });
  const missing = names.find((name) => !found.some((role) => role.name === name));
  if (missing) throw roleNotFound(missing);
}

/** A member has at most one grant of a role at any time, so that revoking the grant takes the role away. */
async function rejectOverlap(tx: Tx, member: string, role: string, period: { startAt: Date; endAt: Date | null }) {
  const others = await tx.em.find(entities.RoleGrant, { member, role, state: { $ne: 'ENDED' } });
  const overlap = others.find(
    (other) =>
      (period.endAt === null || (other.startAt ?? other.createdAt) < period.endAt) &&
      (!other.endAt || other.endAt > period.startAt),
  );
  if (overlap) throw grantExists(member, role, overlap.grantId);
}

/**
 * Renews the ended denial of a deactivated account. With the role the account would count as an administrator, although
 * it cannot sign in. This denial ends when the account has no more roles.
 */
async function renewDenial(tx: Tx, member: string): Promise<void> {
  await tx.execute('update denied_subject set ended_at = null where subject = ? and ended_at is not null', [member]);
}

/** Ends all grants of the member, also those that have not begun. */
export async function endGrantsOf(
  tx: Tx,
  member: string,
  { by, version, now }: { by: string; version: bigint; now: Date },
): Promise<void> {
  const ended = { state: 'ENDED' as const, revokedAt: now, revokedBy: by, version };
  await tx.em.nativeUpdate(entities.RoleGrant, { member, state: { $ne: 'ENDED' } }, ended);
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
  return sql.find(entities.RoleGrant, where, { orderBy: { grantId: 'desc' }, limit: size + 1 });
}

/** The live grants of these members, by which a decision is explained. */
export function liveGrantsOf(sql: SqlReader, members: readonly string[]): Promise<RoleGrantRow[]> {
  return sql.find(entities.RoleGrant, { member: { $in: [...members] }, state: 'LIVE' });
}
