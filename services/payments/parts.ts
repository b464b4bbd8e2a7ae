import type { Built, Config, Parts } from '@armature/runtime';
import { acquirer as openAcquirer } from './acquirer.ts';
import type { config } from './config.ts';
import { paymentGauges } from './gauges.ts';
import { ledgerService } from './ledger-service.ts';
import { operations } from './operations.ts';
import { paymentService } from './service.ts';
import { paymentStore } from './store.ts';
import { pendingSweeper } from './sweeper.ts';

/** What the service consists of, and who is given what. */
export function payments({ config: settings, db, registry, background }: Parts<Config<typeof config>>): Built {
  const store = paymentStore({ pendingResolveMs: settings.pendingResolveMs });
  const acquirer = openAcquirer({
    url: settings.acquirerUrl,
    timeoutMs: settings.acquirerTimeoutMs,
    connectionsMax: settings.acquirerConnectionsMax,
    registry,
  });
  const parts = { db, store, acquirer };
  paymentGauges(db, store, registry);
  return {
    services: [paymentService(db, store, operations(parts)), ledgerService(db)],
    sweepers: [
      pendingSweeper(parts, {
        background,
        everyMs: settings.pendingSweepMs,
        abandonMs: settings.pendingAbandonMs,
      }),
    ],
    close: async () => acquirer.close(),
  };
}
