// What the checkout and the cancellation share: the services they call, and the limits of those calls.
import type { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import type { PaymentServiceContract } from '@armature/proto/payments/v1/contract.ts';
import type { Client } from '@armature/runtime';

/** The clients of the services that the sagas call. */
export interface SagaDependencies {
  inventory: Client<typeof InventoryServiceContract>;
  payments: Client<typeof PaymentServiceContract>;
}

/** Payments waits for the acquirer. An attempt must end before the saga's lease does. */
export const paymentTimeoutMs = 8_000;

const daysMs = 86_400_000;
/** A service that is down for days makes orders late, not stuck. `maxBackoffMs` bounds how often a retry is logged. */
export const retry = { initialBackoffMs: 50, maxBackoffMs: 5_000, maxElapsedMs: 7 * daysMs };

/** An order whose total is 0 has no payment. */
export const isFree = ({ paymentId }: { paymentId: string }): boolean => paymentId === '';
