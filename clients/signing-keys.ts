// Messages and enums of the SigningKeyService of armature.identity.v1; its error reasons are those of identity.
export * from '@armature/proto/identity/v1/signing_keys.ts';
