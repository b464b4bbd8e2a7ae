import { NotificationServiceContract } from '@armature/proto/notifications/v1/contract.ts';
import { run } from '@armature/runtime';
import { notificationsComponents } from './components.ts';
import { config } from './config.ts';

await run({
  name: 'notifications',
  config,
  contracts: [NotificationServiceContract],
  migrations: () => import('./migrations/index.ts'),
  build: notificationsComponents,
});
