import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import { run } from '@armature/runtime';
import { config } from './config.ts';
import { checkoutSagas } from './saga.ts';
import { orderService } from './service.ts';
import { baselineSources, orderStore } from './store.ts';

await run({
  name: 'orders',
  config,
  contracts: [OrderServiceContract],
  migrations: () => import('./migrations/index.ts'),
  build: ({ config, connect, db }) => {
    const catalog = connect(CatalogServiceContract, 'catalog', config.catalog);
    const store = orderStore();
    const sagas = checkoutSagas({ config, connect, store });
    return { services: [orderService({ db, store, catalog, sagas })], sagas: sagas.definitions, baselineSources };
  },
});
