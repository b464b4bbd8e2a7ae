import { AccessServiceContract } from '@armature/proto/access/v1/contract.ts';
import {
  type CallContext,
  closePage,
  type Database,
  type Implementation,
  implement,
  openPage,
  runIdempotent,
} from '@armature/runtime';
import { permissionUnknown, ruleConflict } from './errors.ts';
import { explain } from './explain.ts';
import { listGrants, liveGrantsOf } from './grant-store.ts';
import { insertDecisions, listDecisions, listVersions } from './history-store.ts';
import { callerOf, fromRules, toDecision, toGrant, toPolicyVersion, toRole } from './messages.ts';
import { knownPermissions } from './permissions.ts';
import { givenTwice } from './policy.ts';
import type { OwnPolicy } from './policy-source.ts';
import { listRoles } from './role-store.ts';
import type { AccessStore } from './store.ts';
import { watchPolicy } from './watch.ts';

const pageSize = 50;

export const accessService = (db: Database, store: AccessStore, own: OwnPolicy) =>
  implement(AccessServiceContract, {
    ...roleMethods(db, store),
    ...decisionMethods(db, own),
    ...historyMethods(db),
  });

type Methods = Implementation<typeof AccessServiceContract>;

/** Roles, grants, and the permissions that they are made of. */
function roleMethods(db: Database, store: AccessStore) {
  return {
    async listPermissions() {
      const listed = knownPermissions.map((one) => ({ ...one, methods: [...one.methods], events: [...one.events] }));
      return { permissions: listed };
    },

    async listRoles(message, call) {
      const page = openPage<readonly [string]>(message, pageSize, ['roles']);
      const rows = await db.read(call, (sql) => listRoles(sql, page));
      const { items, nextPageToken } = closePage(rows, page, ({ name }) => [name] as const);
      return { roles: items.map(toRole), nextPageToken };
    },

    async putRole({ name, rules, expectedVersion }, call) {
      const known = new Set(knownPermissions.map((permission) => permission.name));
      const unknown = rules.map(({ permission }) => permission).filter((permission) => !known.has(permission));
      if (unknown.length > 0) throw permissionUnknown(unknown);
      const twice = givenTwice(name, rules);
      if (twice.length > 0) throw ruleConflict(twice);
      const role = { name, rules: fromRules(rules), expected: expectedVersion };
      return runIdempotent(db, call, async (tx) => toRole(await store.putRole(tx, call, role)));
    },

    async deleteRole({ name }, call) {
      return runIdempotent(db, call, async (tx) => ({ policyVersion: await store.deleteRole(tx, call, name) }));
    },

    async listGrants(message, call) {
      const { member, role, liveOnly } = message;
      const page = openPage<readonly [string]>(message, pageSize, ['grants', member, role, liveOnly]);
      const rows = await db.read(call, (sql) => listGrants(sql, message, page));
      const { items, nextPageToken } = closePage(rows, page, ({ grantId }) => [grantId] as const);
      return { grants: items.map(toGrant), nextPageToken };
    },

    async grantRole({ member, role, startTime, endTime }, call) {
      const request = { member, role, startAt: startTime ?? null, endAt: endTime ?? null };
      return runIdempotent(db, call, async (tx) => toGrant(await store.grant(tx, call, request)));
    },

    async revokeRole({ grantId }, call) {
      return runIdempotent(db, call, async (tx) => toGrant(await store.revoke(tx, call, grantId)));
    },
  } satisfies Partial<Methods>;
}

/** Decisions by the policy in force, and the policy itself. */
function decisionMethods(db: Database, own: OwnPolicy) {
  return {
    async checkAccess(message, call) {
      const caller = callerOf(message);
      const { policy, version } = await own.fresh(call);
      return { ...toDecision(policy.decide(caller, message.permission)), policyVersion: version };
    },

    async explainAccess(message, call) {
      const caller = callerOf(message);
      const { policy, version, rows } = await own.fresh(call);
      const decision = policy.decide(caller, message.permission);
      const { reasons, grants } = explain(rows(), message, decision);
      return {
        ...toDecision(decision),
        policyVersion: version,
        reasons,
        grants: await grantMessages(db, call, grants),
      };
    },

    watchPolicy: ({ digest }, call) => watchPolicy(own, digest, call.signal),
  } satisfies Partial<Methods>;
}

/** Earlier versions of the policy, and the recorded decisions of all services. */
function historyMethods(db: Database) {
  return {
    async listPolicyVersions(message, call) {
      const page = openPage<readonly [string]>(message, pageSize, ['versions']);
      const rows = await db.read(call, (sql) => listVersions(sql, page));
      const { items, nextPageToken } = closePage(rows, page, ({ version }) => [String(version)] as const);
      return { versions: items.map(toPolicyVersion), nextPageToken };
    },

    async listDecisions(message, call) {
      const { service, subject, permission, deniedOnly } = message;
      const filter = ['decisions', service, subject, permission, deniedOnly];
      const page = openPage<readonly [string]>(message, pageSize, filter);
      const rows = await db.read(call, (sql) => listDecisions(sql, message, page));
      const { items, nextPageToken } = closePage(rows, page, ({ position }) => [position] as const);
      return { decisions: items, nextPageToken };
    },

    async recordDecisions({ decisions }, call) {
      const { workload } = call.caller;
      if (!workload) throw new Error('a call without a workload was authorized');
      return runIdempotent(db, call, async (tx) => {
        await insertDecisions(tx, workload, decisions);
        return {};
      });
    },
  } satisfies Partial<Methods>;
}

/** The grants of an explanation, in its order. A grant that has ended since is left out. */
async function grantMessages(db: Database, call: CallContext, links: readonly { member: string; role: string }[]) {
  if (links.length === 0) return [];
  const members = [...new Set(links.map(({ member }) => member))];
  const rows = await db.read(call, (sql) => liveGrantsOf(sql, members));
  return links.flatMap(({ member, role }) => {
    const found = rows.find((row) => row.member === member && row.role === role);
    return found ? [toGrant(found)] : [];
  });
}
