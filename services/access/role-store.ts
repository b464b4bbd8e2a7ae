import { type CallContext, type Page, principalOf, type SqlReader, type Tx } from '@armature/runtime';
import { everyUser } from '@armature/runtime/authz';
import type { PolicyRuleRow } from './entities.ts';
import * as entities from './entities.ts';
import { policyChanged, roleInUse, roleNotFound } from './errors.ts';
import { noRows } from './giving.ts';
import { endGrantsOf } from './grant-store.ts';
import { describeRules, type Rule } from './policy.ts';
import type { ChangePolicy } from './policy-store.ts';

/** A role or a workload with its rules, sorted by permission. */
export interface Role {
  name: string;
  rules: Omit<Rule, 'subject'>[];
  updatedAt: Date;
}

/** Changes roles and their rules. */
export function roleStore(change: ChangePolicy) {
  return {
    /**
     * Replaces the rules of a role or workload. `expected` is the version that the caller has read, or 0 for any. Throws
     * POLICY_CHANGED, and the reasons of ChangePolicy.
     */
    putRole(
      tx: Tx,
      call: CallContext,
      role: { name: string; rules: readonly Omit<Rule, 'subject'>[]; expected: bigint },
    ) {
      const { name, expected } = role;
      return change(tx, call, async ({ before, now }) => {
        if (expected !== 0n && expected !== before) throw policyChanged(expected, before);
        const rules = role.rules.map((rule) => ({ ...rule, subject: name }));
        const old = await replaceRules(tx, name, rules, now);
        const without = (some: readonly Rule[], others: readonly Rule[]) =>
          some.filter(({ permission, scope }) => !others.some((o) => o.permission === permission && o.scope === scope));
        const given = { rules: without(rules, old), grants: [] };
        const taken = { rules: without(old, rules), grants: [] };
        const result = { name, rules: sorted(rules), updatedAt: now } satisfies Role;
        return { words: describeRules(name, old, rules), result, rows: { given, taken } };
      });
    },

    /** Returns the version without the role. Throws ROLE_NOT_FOUND and ROLE_IN_USE. */
    deleteRole(tx: Tx, call: CallContext, name: string): Promise<bigint> {
      return change(tx, call, async ({ version, now }) => {
        const role = await tx.em.findOne(entities.PolicyRole, { name });
        if (!role) throw roleNotFound(name);
        if (name === everyUser) throw roleInUse(name, 'every user');
        const grant = await tx.em.findOne(entities.RoleGrant, { role: name, state: { $ne: 'ENDED' } });
        if (grant) throw roleInUse(name, grant.member);
        // The grants of a role end with it. A workload keeps its grants and loses only its own rules.
        if (name.startsWith('role:')) {
          await endGrantsOf(tx, name, { by: principalOf(call.caller), version, now });
        }
        const rules = await tx.em.find(entities.PolicyRule, { subject: name }, { disableIdentityMap: true });
        await tx.em.nativeDelete(entities.PolicyRule, { subject: name });
        tx.em.remove(role);
        const rows = { given: noRows, taken: { rules, grants: [] } };
        return { words: `${name} was deleted`, result: version, rows };
      });
    },
  };
}

/** Replaces the rules of the subject. Returns the rules that it had before. */
async function replaceRules(tx: Tx, name: string, rules: readonly Rule[], now: Date): Promise<PolicyRuleRow[]> {
  const before = await tx.em.find(entities.PolicyRule, { subject: name }, { disableIdentityMap: true });
  await tx.em.upsert(entities.PolicyRole, { name, updatedAt: now });
  await tx.em.nativeDelete(entities.PolicyRule, { subject: name });
  await tx.em.insertMany(entities.PolicyRule, [...rules]);
  return before;
}

const sorted = <R extends { permission: string }>(rules: readonly R[]): R[] =>
  rules.toSorted((a, b) => (a.permission < b.permission ? -1 : 1));

/** One role more than the page holds, by name, in two queries. */
export async function listRoles(sql: SqlReader, { size, after }: Page<readonly [string]>): Promise<Role[]> {
  const where = after ? { name: { $gt: String(after[0]) } } : {};
  const roles = await sql.find(entities.PolicyRole, where, { orderBy: { name: 'asc' }, limit: size + 1 });
  const rules = await sql.find(entities.PolicyRule, { subject: { $in: roles.map(({ name }) => name) } });
  const bySubject = Map.groupBy(rules, ({ subject }) => subject);
  return roles.map(({ name, updatedAt }) => ({ name, updatedAt, rules: sorted(bySubject.get(name) ?? []) }));
}
