import type { Background, Database, PeriodicJob, Registry } from '@armature/runtime';
import { type JobRunner, jobRunner } from '@armature/runtime/jobs';
import type { SendMail } from '@armature/runtime/mail';
import { crashPoint } from '@armature/runtime/sync';
import { render } from './receipt.ts';
import { type DeliveryStore, toDelivery } from './store.ts';

/** E-mails that one process sends at the same time. */
export const mailConcurrency = 20;

/** The periodic jobs of this service: sending due deliveries, and deleting those that were sent long ago. */
export function jobs(parts: {
  db: Database;
  store: DeliveryStore;
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
    async run(row, _call, signal) {
      const delivery = toDelivery(row);
      crashPoint('job.before-send');
      const mail = { to: delivery.recipient, messageId: delivery.mailMessageId, ...render(delivery) };
      await parts.send(mail, signal);
      crashPoint('job.sent');
    },
  });
  return { periodicJobs, close: runner.close };
}
