// Messages of the SessionService of armature.identity.v1; its error reasons are those of identity.
export * from '@armature/proto/identity/v1/sessions.ts';
