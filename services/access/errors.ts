import { AccessErrorReason } from '@armature/proto/access/v1/contract.ts';
import { rpcError } from '@armature/runtime';

/** The longest value of an error's metadata. Longer lists of problems are cut. */
const namedMax = 1000;
const some = (all: readonly string[], separator = ','): string => all.join(separator).slice(0, namedMax);

export const permissionUnknown = (permissions: readonly string[]) =>
  rpcError('FAILED_PRECONDITION', AccessErrorReason.PERMISSION_UNKNOWN, 'no contract names these permissions', {
    permissions: some(permissions),
  });

export const ruleConflict = (problems: readonly string[]) =>
  rpcError('FAILED_PRECONDITION', AccessErrorReason.RULE_CONFLICT, some(problems, '; '), {
    rules: some(problems, '; '),
  });

export const roleCycle = (problems: readonly string[]) =>
  rpcError('FAILED_PRECONDITION', AccessErrorReason.ROLE_CYCLE, some(problems, '; '), {
    grants: some(problems, '; '),
  });

export const permissionReserved = (permissions: readonly string[]) =>
  rpcError(
    'PERMISSION_DENIED',
    AccessErrorReason.PERMISSION_RESERVED,
    `reserved, so that only the deployment gives it: ${some(permissions, ', ')}; see ARMATURE_RESERVED_PERMISSIONS`,
    { permissions: some(permissions) },
  );

export const roleNotAdministered = (role: string, permissions: readonly string[]) =>
  rpcError(
    'PERMISSION_DENIED',
    AccessErrorReason.ROLE_NOT_ADMINISTERED,
    `${role} has permissions that the caller has not: ${some(permissions, ', ')}; who has access.grant and access.write administers every role`,
    { role, permissions: some(permissions) },
  );

export const lastAdministrator = () =>
  rpcError(
    'FAILED_PRECONDITION',
    AccessErrorReason.LAST_ADMINISTRATOR,
    'no user would be left who may change roles and grants by a grant without an end',
  );

export const policyChanged = (expected: bigint, current: bigint) =>
  rpcError('ABORTED', AccessErrorReason.POLICY_CHANGED, 'the policy was changed since the caller read it', {
    expected_version: String(expected),
    current_version: String(current),
  });

/** A repeat may succeed once rows were removed, so this refusal is not stored for the request id. */
export const limitReached = (what: string, limit: number) =>
  rpcError('RESOURCE_EXHAUSTED', AccessErrorReason.LIMIT_REACHED, `the policy may have at most ${limit} ${what}`, {
    what,
    limit: String(limit),
  });

export const roleNotFound = (role: string) =>
  rpcError('NOT_FOUND', AccessErrorReason.ROLE_NOT_FOUND, 'no role has this name', { role });

export const roleInUse = (role: string, member: string) =>
  rpcError('FAILED_PRECONDITION', AccessErrorReason.ROLE_IN_USE, `${member} has ${role}`, { role, member });

export const grantExists = (member: string, role: string, grantId: string) =>
  rpcError('ALREADY_EXISTS', AccessErrorReason.GRANT_EXISTS, `${member} already has ${role} during this period`, {
    member,
    role,
    grant_id: grantId,
  });

export const grantNotFound = (grantId: string) =>
  rpcError('NOT_FOUND', AccessErrorReason.GRANT_NOT_FOUND, 'no grant has this id', { grant_id: grantId });

export const grantEnded = (grantId: string) =>
  rpcError('FAILED_PRECONDITION', AccessErrorReason.GRANT_ENDED, 'the grant has ended', { grant_id: grantId });

export const grantTimesInvalid = (problem: string) =>
  rpcError('FAILED_PRECONDITION', AccessErrorReason.GRANT_TIMES_INVALID, problem);
