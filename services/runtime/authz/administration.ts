import { permissions } from '@armature/proto/permissions.ts';

/** Permissions that only the deployment gives, as the contracts say. */
export const reservedPermissions: ReadonlySet<string> = new Set(
  permissions.filter(({ reserved }) => reserved).map(({ name }) => name),
);

/** Who has both for everything decides about all roles and grants, except for reserved permissions. */
export const administration = ['access.grant', 'access.write'] as const;
