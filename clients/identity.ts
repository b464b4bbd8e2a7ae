// Messages, enums and error reasons of armature.identity.v1.

export { IdentityErrorReason } from '@armature/proto/identity/v1/contract.ts';
export * from '@armature/proto/identity/v1/identity.ts';
