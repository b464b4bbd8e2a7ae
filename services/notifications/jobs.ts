import type { Background, CallContext, Database, PeriodicJob, Registry } from '@armature/runtime';
import { Counter } from '@armature/runtime';
import type { SendMail } from '@armature/runtime/mail';
import { crashPoint } from '@armature/runtime/sync';
import { afterFailure, backoffMs } from './delivery.ts';
import { render } from './receipt.ts';
import type { DeliveryStore, LeasedDelivery } from './store.ts';

/** Longer than the transport's own limits, shorter than the lease. */
const attemptTimeoutMs = 25_000;
/** How often due deliveries are looked for when there were none. */
const pollMs = 250;

/**
 * Sends what is due. A delivery is leased, sent outside any transaction, and its outcome recorded only
 * while the lease is still held: a sender that was paused too long cannot overwrite its successor.
 */
export function sendDue(parts: {
  db: Database;
  store: DeliveryStore;
  send: SendMail;
  background: Background;
  registry: Registry;
  config: { attemptsMax: number; retryBaseMs: number };
}): PeriodicJob {
  const { db, store } = parts;
  const outcomes = new Counter({
    name: 'armature_jobs_total',
    help: 'Attempts of background jobs by outcome',
    labelNames: ['job', 'outcome'],
    registers: [parts.registry],
  });
  // Each attempt is a call of its own: they run side by side, and a call has one transaction at a time.
  const attempt = async (delivery: LeasedDelivery) => {
    const call = parts.background('send mail', attemptTimeoutMs);
    try {
      const outcome = await sendOne(parts, call, delivery);
      outcomes.inc({ job: 'mail', outcome });
    } finally {
      call.close();
    }
  };
  return {
    name: 'deliveries',
    everyMs: pollMs,
    async run(call) {
      const leased = await db.transaction(call, (tx) => store.leaseDue(tx));
      await Promise.all(leased.map(attempt));
      return leased.length;
    },
  };
}

async function sendOne(
  { db, store, send, config }: Parameters<typeof sendDue>[0],
  call: CallContext,
  delivery: LeasedDelivery,
): Promise<'sent' | 'failed' | 'dead' | 'lease_lost'> {
  const attempts = delivery.attempts + 1;
  let failure: string | null = null;
  try {
    crashPoint('job.before-send');
    await send({ to: delivery.recipient, messageId: delivery.mailMessageId, ...render(delivery) });
    crashPoint('job.sent');
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
    call.log.warn({ err: error, delivery: delivery.deliveryId, attempts }, 'mail not sent');
  }
  const state = failure === null ? 'SENT' : afterFailure(attempts, config.attemptsMax);
  const waitMs = failure === null ? 0 : backoffMs(attempts, config.retryBaseMs);
  const held = await db.transaction(call, (tx) =>
    store.record(tx, delivery, { state, attempts, lastError: failure ?? '', waitMs }),
  );
  if (!held) return 'lease_lost';
  return state === 'SENT' ? 'sent' : state === 'DEAD' ? 'dead' : 'failed';
}

/** The periodic jobs of this service: sending what is due, and deleting what was sent long ago. */
export function jobs(parts: Parameters<typeof sendDue>[0] & { config: { deliveryKeptDays: number } }): PeriodicJob[] {
  return [sendDue(parts), parts.store.retention(parts.db, parts.config.deliveryKeptDays)];
}
