import { NotificationServiceContract } from '@armature/proto/notifications/v1/contract.ts';
import { run } from '@armature/runtime';
import { mailTransport } from '@armature/runtime/mail';
import { config } from './config.ts';
import { consumers } from './consumers.ts';
import { jobs, mailConcurrency } from './jobs.ts';
import { notificationService } from './service.ts';
import { deliveryStore } from './store.ts';

await run({
  name: 'notifications',
  config,
  contracts: [NotificationServiceContract],
  migrations: () => import('./migrations/index.ts'),
  build: ({ background, config, db, registry }) => {
    const store = deliveryStore(config);
    const sending = jobs({ db, store, send: mailTransport(config, mailConcurrency), background, registry });
    return { services: [notificationService(db, store)], consumers: consumers(store), ...sending };
  },
});
