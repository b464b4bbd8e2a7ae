import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import { run } from '@armature/runtime';
import { ordersComponents } from './components.ts';
import { config } from './config.ts';

await run({
  name: 'orders',
  config,
  contracts: [OrderServiceContract],
  migrations: () => import('./migrations/index.ts'),
  build: ordersComponents,
});
