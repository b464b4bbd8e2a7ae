import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import type { Config, ServiceComponents, ServiceDependencies } from '@armature/runtime';
import { mailTransport } from '@armature/runtime/mail';
import type { config as variables } from './config.ts';
import { consumers } from './consumers.ts';
import { contactFrom } from './contact.ts';
import { jobs, mailConcurrency } from './jobs.ts';
import { notificationService } from './service.ts';
import { deliveryStore } from './store.ts';

/** Creates the components of the service from the runtime's dependencies. */
export function notificationsComponents({
  background,
  config,
  connect,
  db,
  registry,
}: ServiceDependencies<Config<typeof variables>>): ServiceComponents {
  const store = deliveryStore(config);
  const contactOf = contactFrom(connect(OrderServiceContract, 'orders', config.orders));
  const send = mailTransport(config, mailConcurrency);
  const sending = jobs({ db, store, contactOf, send, background, registry });
  return { services: [notificationService(db, store)], consumers: consumers(store, config.mailUrl), ...sending };
}
