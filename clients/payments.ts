// Messages, enums and error reasons of the PaymentService of armature.payments.v1.
export { PaymentErrorReason } from '@armature/proto/payments/v1/contract.ts';
export * from '@armature/proto/payments/v1/payments.ts';
