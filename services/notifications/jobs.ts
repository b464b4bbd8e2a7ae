import type { Background, Database, PeriodicJob, Registry } from '@armature/runtime';
import { type JobRunner, jobRunner } from '@armature/runtime/jobs';
import type { SendMail } from '@armature/runtime/mail';
import { crashPoint } from '@armature/runtime/sync';
import { type ContactOf, withoutAddress } from './contact.ts';
import { render } from './receipt.ts';
import { type DeliveryStore, toDelivery } from './store.ts';

/** E-mails that one process sends at the same time. */
export const mailConcurrency = 20;

/** The periodic jobs of this service: sending due deliveries, and deleting those that were sent long ago. */
export function jobs(parts: {
  db: Database;
  store: DeliveryStore;
  contactOf: ContactOf;
  send: SendMail;
  background: Background;
  registry: Registry;
}): { periodicJobs: PeriodicJob[]; close: JobRunner['close'] } {
  const runner = jobRunner(parts);
  const periodicJobs = runner.periodicJobs({
    queue: parts.store.queue,
    name: 'deliveries',
    work: 'send mail',
    concurrency: mailConcurrency,
    async run(row, call, signal) {
      const delivery = toDelivery(row);
      const to = await parts.contactOf(delivery, call, signal);
      crashPoint('job.before-send');
      await parts.send({ to, messageId: delivery.mailMessageId, ...render(delivery) }, signal).catch((error) => {
        throw withoutAddress(error, to);
      });
      crashPoint('job.sent');
    },
  });
  return { periodicJobs, close: runner.close };
}
