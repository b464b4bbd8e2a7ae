// Messages, enums and error reasons of armature.access.v1.
export * from '@armature/proto/access/v1/access.ts';
export { AccessErrorReason } from '@armature/proto/access/v1/contract.ts';
