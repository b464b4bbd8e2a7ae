import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { run } from '@armature/runtime';
import { config } from './config.ts';
import { inventoryService } from './service.ts';
import { inventoryStore } from './store.ts';

await run({
  name: 'inventory',
  config,
  contracts: [InventoryServiceContract],
  migrations: () => import('./migrations/index.ts'),
  build: ({ config, db }) => {
    const store = inventoryStore({ reservationTtlMs: config.reservationTtlMs });
    const expire = { name: 'expired reservations', everyMs: config.expireEveryMs, run: store.expireReservations(db) };
    return { services: [inventoryService(db, store)], periodicJobs: [expire] };
  },
});
