import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import { run } from '@armature/runtime';
import { config } from './config.ts';
import { ordersParts } from './parts.ts';

await run({
  name: 'orders',
  config,
  contracts: [OrderServiceContract],
  migrations: () => import('./migrations/index.ts'),
  build: ordersParts,
});
