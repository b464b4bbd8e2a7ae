import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import { run } from '@armature/runtime';
import { config } from './config.ts';
import { entities } from './entities.ts';
import { catalogService } from './service.ts';

await run({
  name: 'catalog',
  config,
  contracts: [CatalogServiceContract],
  entities,
  migrations: () => import('./migrations/index.ts'),
  build: ({ db }) => ({ services: [catalogService(db)] }),
});
