import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import type { Config, ServiceComponents, ServiceDependencies } from '@armature/runtime';
import type { config } from './config.ts';
import { consumers } from './consumers.ts';
import { erasureJob } from './erasure.ts';
import { erasureStore } from './erasure-store.ts';
import { failedCancellations } from './failed-cancellations.ts';
import { orderSagas } from './saga.ts';
import { orderService } from './service.ts';
import { baselineSources, orderStore } from './store.ts';

/** Creates the components of the service from the runtime's dependencies. */
export function ordersComponents(dependencies: ServiceDependencies<Config<typeof config>>): ServiceComponents {
  const { config: settings, connect, db, log } = dependencies;
  const catalog = connect(CatalogServiceContract, 'catalog', settings.catalog);
  const store = orderStore();
  const erasures = erasureStore();
  const sagas = orderSagas({ config: settings, connect, store });
  return {
    services: [orderService({ db, store, catalog, sagas, erasures })],
    consumers: consumers(erasures),
    sagas: sagas.definitions,
    baselineSources,
    periodicJobs: [failedCancellations({ db, store, sagas, log }), erasureJob({ db, erasures })],
  };
}
