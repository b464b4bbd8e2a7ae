import { type Permission, permissions } from '@armature/proto/permissions.ts';

/** Permissions that the runtime checks without a contract: channelz has none here. */
const ofTheRuntime: readonly Permission[] = [
  { name: 'ops.channelz', reserved: false, methods: ['/grpc.channelz.v1.Channelz'], events: [] },
];

/** Every permission that a contract names, by name. */
export const knownPermissions: readonly Permission[] = [...permissions, ...ofTheRuntime].sort((a, b) =>
  a.name < b.name ? -1 : 1,
);
