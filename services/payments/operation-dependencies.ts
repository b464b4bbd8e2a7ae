import type { Database } from '@armature/runtime';
import type { RequestHash } from '@armature/runtime/idempotency';
import type { Acquirer } from './acquirer.ts';
import type { PaymentStore } from './store.ts';

export interface OperationDependencies {
  db: Database;
  store: PaymentStore;
  acquirer: Acquirer;
  /** For how long after its key came into use an operation may be sent. The acquirer remembers keys for longer. */
  sendAgainMs: number;
  /** The keyed digest that stands for a payment method wherever it is stored. */
  hashMethod: (paymentMethod: string) => RequestHash;
}
