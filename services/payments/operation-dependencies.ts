import type { Database } from '@armature/runtime';
import type { RequestHash } from '@armature/runtime/idempotency';
import type { Acquirer } from './acquirer.ts';
import type { PaymentStore } from './store.ts';

export interface OperationDependencies {
  db: Database;
  store: PaymentStore;
  acquirer: Acquirer;
  /** How long an operation may be sent after its key was created. The acquirer keeps keys longer. */
  sendAgainMs: number;
  /** The keyed digest that is stored instead of a payment method. */
  hashMethod: (paymentMethod: string) => RequestHash;
}
