// Messages, enums and error reasons of armature.orders.v1.
export { OrderErrorReason } from '@armature/proto/orders/v1/contract.ts';
export * from '@armature/proto/orders/v1/orders.ts';
