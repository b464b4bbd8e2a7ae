// Messages of the LedgerService of armature.payments.v1; its error reasons are those of payments.
export * from '@armature/proto/payments/v1/ledger.ts';
