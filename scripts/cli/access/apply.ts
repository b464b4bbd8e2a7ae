import { readFileSync } from 'node:fs';
import { type Role, Scope } from '@armature/proto/access/v1/access.ts';
import { parsePolicy, type RuleScope } from '@armature/runtime/authz';
import { policyFile } from '../../devmesh/environment.ts';
import type { Invocation } from '../command.ts';
import { printJson } from '../json.ts';
import { writeTable } from '../table.ts';
import { terminalWidth } from '../terminal.ts';
import { type AccessClient, withAccess } from './access-client.ts';
import { changeRow, type PolicyChange, type PolicyInForce, type PolicyPlan, planPolicy } from './policy-plan.ts';

export interface ApplyOptions {
  as: string;
  file?: string;
  /** Whether what only the policy in force has is removed. */
  prune?: boolean;
  apply?: boolean;
}

const pageSize = 200;

const scopes: readonly [RuleScope, Role['rules'][number]['scope']][] = [
  ['any', Scope.SCOPE_ANY],
  ['own', Scope.SCOPE_OWN],
  ['on-behalf', Scope.SCOPE_ON_BEHALF],
];
const toScope = new Map(scopes);
const fromScope = new Map(scopes.map(([text, value]) => [value, text]));

/**
 * Compares a policy file with the policy in force, and with `apply` makes the difference by calls of access, each of
 * which is audited. The exit code is 1 where they differ and nothing was applied.
 */
export async function applyPolicy(options: ApplyOptions, invocation: Invocation): Promise<void> {
  const { as, file = policyFile, prune = false, apply = false } = options;
  const wanted = parsePolicy(readPolicy(file), file);
  await withAccess(as, invocation, async (client) => {
    const { version, inForce } = await readInForce(client);
    const plan = planPolicy(wanted, inForce, { prune });
    if (apply) await makeChanges(client, plan.changes, version);
    process.exitCode = plan.changes.length > 0 && !apply ? 1 : 0;
    if (invocation.json) printJson({ applied: apply, version: version.toString(), ...plan });
    else print(plan, { file, apply });
  });
}

function readPolicy(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new Error(`--file ${file}: the policy cannot be read`, { cause });
  }
}

/** Reads all roles and live grants, and the version that they are. Throws when the policy changes meanwhile. */
async function readInForce(client: AccessClient): Promise<{ version: bigint; inForce: PolicyInForce }> {
  const version = await currentVersion(client);
  const rules = new Map<string, { permission: string; scope: RuleScope }[]>();
  for (let pageToken = ''; ; ) {
    const page = await client.listRoles({ pageSize, pageToken });
    for (const role of page.roles) {
      const list = role.rules.map(({ permission, scope }) => ({ permission, scope: fromScope.get(scope)! }));
      rules.set(role.name, list);
    }
    pageToken = page.nextPageToken;
    if (pageToken === '') break;
  }
  const grants: PolicyInForce['grants'][number][] = [];
  for (let pageToken = ''; ; ) {
    const page = await client.listGrants({ pageSize, pageToken, liveOnly: true });
    grants.push(...page.grants.map(({ grantId, member, role }) => ({ grantId, member, role })));
    pageToken = page.nextPageToken;
    if (pageToken === '') break;
  }
  if ((await currentVersion(client)) !== version) throw changedMeanwhile();
  return { version, inForce: { rules, grants } };
}

async function currentVersion(client: AccessClient): Promise<bigint> {
  const { versions } = await client.listPolicyVersions({ pageSize: 1 });
  return versions[0]?.version ?? 0n;
}

/** Makes one change after another. Each makes one version, so that a change of another caller is noticed. */
async function makeChanges(client: AccessClient, changes: readonly PolicyChange[], before: bigint): Promise<void> {
  let version = before;
  for (const change of changes) {
    const made = await makeChange(client, change, version);
    version++;
    if (made !== version) throw changedMeanwhile();
    console.error(`  ok ${changeRow(change).join(' ').trimEnd()} (version ${version})`);
  }
}

/** Makes a change and returns the version of the policy with it. */
async function makeChange(client: AccessClient, change: PolicyChange, version: bigint): Promise<bigint> {
  switch (change.kind) {
    case 'put-role': {
      const rules = change.rules.map(({ permission, scope }) => ({ permission, scope: toScope.get(scope)! }));
      // Access refuses it where the version is another; otherwise it makes the next one.
      await client.putRole({ name: change.name, rules, expectedVersion: version });
      return version + 1n;
    }
    case 'grant':
      return (await client.grantRole({ member: change.member, role: change.role })).policyVersion;
    case 'revoke':
      return (await client.revokeRole({ grantId: change.grantId })).policyVersion;
    case 'delete-role':
      return (await client.deleteRole({ name: change.name })).policyVersion;
  }
}

const changedMeanwhile = () =>
  new Error('another caller changed the policy meanwhile; run the command again to compare with what is in force now');

function print({ changes, kept, impossible }: PolicyPlan, { file, apply }: { file: string; apply: boolean }): void {
  const rows = changes.map(changeRow);
  if (rows.length > 0) {
    for (const line of writeTable([['CHANGE', 'SUBJECT', 'DETAILS'], ...rows], 'text', terminalWidth()))
      console.log(line);
  }
  for (const line of impossible) console.log(`not applied: ${line}`);
  for (const line of kept) console.log(`kept, although ${file} does not name it: ${line}`);
  if (changes.length === 0) console.log('The policy in force has all that can be applied.');
  else if (apply) console.log(`${changes.length} changes were made.`);
  else console.log('nothing was done; --apply makes these changes');
  if (kept.length > 0) console.log('--prune removes what the file does not name');
}
