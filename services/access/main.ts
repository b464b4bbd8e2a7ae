import { AccessServiceContract } from '@armature/proto/access/v1/contract.ts';
import { run } from '@armature/runtime';
import { buildAccess } from './components.ts';
import { config } from './config.ts';
import { entities } from './entities.ts';

await run({
  name: 'access',
  config,
  contracts: [AccessServiceContract],
  entities,
  migrations: () => import('./migrations/index.ts'),
  build: buildAccess,
});
