import type { Config, ServiceComponents, ServiceDependencies } from '@armature/runtime';
import { serveHttps } from '@armature/runtime/http';
import { requestHasher } from '@armature/runtime/idempotency';
import { acquirer as openAcquirer } from './acquirer.ts';
import type { config } from './config.ts';
import { paymentGauges } from './gauges.ts';
import { ledgerService } from './ledger-service.ts';
import { paymentOperationService } from './operation-service.ts';
import { operations } from './operations.ts';
import { pendingOperationsJob } from './pending-operations-job.ts';
import { reconciliation } from './reconciliation.ts';
import { reconciliationJob } from './reconciliation-job.ts';
import { paymentService } from './service.ts';
import { paymentStore } from './store.ts';
import { webhookReceiver } from './webhook-receiver.ts';
import { webhookStore } from './webhook-store.ts';

/** Creates the components of the service from the runtime's dependencies. */
export async function paymentsComponents(
  dependencies: ServiceDependencies<Config<typeof config>>,
): Promise<ServiceComponents> {
  const { config: settings, db, registry, background, log, tls } = dependencies;
  const store = paymentStore({ pendingResolveMs: settings.pendingResolveMs });
  const acquirer = openAcquirer({
    url: settings.acquirerUrl,
    timeoutMs: settings.acquirerTimeoutMs,
    connectionsMax: settings.acquirerConnectionsMax,
    registry,
  });
  const hasher = requestHasher({ current: settings.requestHashKey, previous: settings.requestHashPreviousKeys });
  const hashMethod = (paymentMethod: string) => {
    const bytes = Buffer.from(`payment method\n${paymentMethod}`);
    return hasher(bytes, bytes);
  };
  const operationDependencies = { db, store, acquirer, sendAgainMs: settings.sendAgainMs, hashMethod };
  paymentGauges(db, store, registry);
  const reconciling = reconciliationJob(operationDependencies, {
    everyMs: settings.reconcileMs,
    fullEveryMs: settings.reconcileFullMs,
    graceMs: settings.reconcileGraceMs,
    registry,
  });
  const events = webhookStore(db, store);
  const { webhookAddress, webhookSecrets: secrets, webhooksInFlightMax: inFlightMax } = settings;
  const webhooks = await serveHttps({
    address: webhookAddress,
    tls,
    log,
    ...webhookReceiver({ store: events, acquirer, background, registry, secrets, inFlightMax }),
  });
  return {
    services: [
      paymentService(db, store, operations(operationDependencies)),
      paymentOperationService(operationDependencies),
      ledgerService(db, reconciliation(operationDependencies)),
    ],
    periodicJobs: [
      pendingOperationsJob(operationDependencies, {
        background,
        everyMs: settings.pendingJobMs,
        abandonMs: settings.pendingAbandonMs,
      }),
      reconciling.job,
      { name: 'old webhook events', everyMs: 60_000, run: (call) => db.write(call, events.purge) },
    ],
    http: webhooks,
    async close() {
      await reconciling.close();
      acquirer.close();
    },
  };
}
