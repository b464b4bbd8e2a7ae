import type { Background, Database, PeriodicJob, Registry } from '@armature/runtime';
import { type JobRunner, jobRunner } from '@armature/runtime/jobs';
import type { SendMail } from '@armature/runtime/mail';
import { purposeOf, render } from './email.ts';
import { type EmailStore, messageIdOf } from './email-store.ts';
import { mailToken } from './mail-token.ts';
import type { Sealing } from './sealing.ts';

/** E-mails that one process sends at the same time. */
export const mailConcurrency = 10;

/** Sends due e-mails. The token of a link is computed here and not stored. */
export function sendEmails(parts: {
  db: Database;
  emails: EmailStore;
  send: SendMail;
  sealing: Sealing;
  issuer: string;
  background: Background;
  registry: Registry;
}): { periodicJobs: PeriodicJob[]; close: JobRunner['close'] } {
  const { emails, send, sealing, issuer } = parts;
  const runner = jobRunner(parts);
  const periodicJobs = runner.periodicJobs({
    queue: emails.queue,
    name: 'emails',
    work: 'send mail',
    concurrency: mailConcurrency,
    async run({ letter_id, kind, recipient }, _call, signal) {
      const purpose = purposeOf(kind);
      const token = purpose && mailToken(sealing, purpose, letter_id);
      await send({ to: recipient, messageId: messageIdOf(letter_id), ...render(kind, issuer, token) }, signal);
    },
  });
  return { periodicJobs, close: runner.close };
}
