// Messages and enums of the PaymentOperationService of armature.payments.v1; its error reasons are those of payments.
export * from '@armature/proto/payments/v1/operations.ts';
