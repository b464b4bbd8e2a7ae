// Messages, enums and error reasons of armature.notifications.v1.
export { NotificationErrorReason } from '@armature/proto/notifications/v1/contract.ts';
export * from '@armature/proto/notifications/v1/notifications.ts';
