import { type Permission, permissions } from '@armature/proto/permissions.ts';

/** Every permission that a contract names, by name. The list is generated: a permission is known once a contract has it. */
export const knownPermissions: readonly Permission[] = permissions;
