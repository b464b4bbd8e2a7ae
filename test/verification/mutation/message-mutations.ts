// Mutations of event processing: outbox, relay, broker, inbox, and e-mail.
import { crashTest, type Mutation, tests } from './mutation.ts';

const relay = 'services/runtime/messaging/relay.test.ts';
const messaging = 'services/runtime/messaging/messaging.test.ts';

export const messageMutations: readonly Mutation[] = [
  {
    name: 'event after the commit',
    breaks: 'an event is never published if the process is killed in between',
    edits: [
      {
        file: 'services/runtime/messaging/outbox.ts',
        old: `    await writeOutbox(tx, call, events);
    crashPointOf(call.name, 'before-commit');`,
        new: `    crashPointOf(call.name, 'before-commit');
    await writeOutbox(tx, call, events);`,
      },
      {
        file: 'services/runtime/db/database.ts',
        old: `    for (const participant of participants) await participant.beforeCommit(tx, call);
    if (atSyncPoint) await atSyncPoint('commit');
    await em.commit();`,
        new: `    if (atSyncPoint) await atSyncPoint('commit');
    await em.commit();
    for (const participant of participants)
      await participant.beforeCommit({ ...tx, ...sqlOf(backend.orm.em.fork(), null) }, call);`,
      },
    ],
    caughtBy: { detector: crashTest, says: /I17 |I19 |I21 / },
  },
  {
    name: 'mark before confirm',
    breaks: 'an event that the broker did not accept is never published again',
    edits: [
      {
        file: 'services/runtime/messaging/relay-batch.ts',
        old: '  const confirms = await Promise.allSettled(sent);',
        new: `  for (const one of sent) one.catch(() => {});
  const confirms = rows.map(
    (): PromiseSettledResult<'routed' | 'unrouted'> => ({ status: 'fulfilled', value: 'routed' }),
  );`,
      },
    ],
    // Too few events are unconfirmed when the broker is killed for a crash test to catch this every time.
    caughtBy: {
      detector: tests(relay, 'what the broker has not confirmed stays pending, and is published again'),
      says: /3 effects: not within/,
    },
  },
  {
    name: 'relay without a fence',
    breaks: 'a relay that was paused marks events that its successor is publishing',
    edits: [
      {
        file: 'services/runtime/messaging/relay-batch.ts',
        old: 'and exists (select 1 from lease where name = ? and token = ?)`',
        new: 'and (? <> ?)`',
      },
    ],
    caughtBy: { detector: tests(relay, 'a relay that lost its lease marks nothing'), says: /notices: not within/ },
  },
  {
    name: 'acknowledge on receipt',
    breaks: 'an event is lost when the process that handles it is killed',
    edits: [
      {
        file: 'services/runtime/messaging/stream.ts',
        old: `      else void rejectForeign(on, delivery);
    });`,
        new: `      else void rejectForeign(on, delivery);
    }, { noAck: true });`,
      },
      {
        file: 'services/runtime/messaging/delivery.ts',
        old: '    delivery.session.channel.ack(delivery.message);',
        new: '    void delivery.message;',
      },
    ],
    caughtBy: { detector: crashTest, says: /I19 |I20 / },
  },
  {
    name: 'inbox outside the transaction',
    breaks: 'an event that could not be handled at once counts as handled',
    edits: [
      {
        file: 'services/runtime/messaging/handling.ts',
        old: `    const step = await stepSequence(tx, on.stream, delivery, 'applied');
    if (step === 'early' || step === 'superseded') return step;
    const outcome = step === 'missed' ? await stepMissed(tx, on.stream, delivery, handler.orderIndependent) : 'applied';
    if (step === 'duplicate' || !(await noteMessage(tx, on.stream, delivery, outcome))) {
      await assertDuplicate(tx, on.stream, delivery);
      return 'duplicate';
    }
    if (outcome === 'skipped') return 'superseded';
    await untilDeadline`,
        new: `    const step = await asCall(on, delivery, { name: 'inbox', event: null }, (own) =>
      on.db.transaction(own, async (inbox): Promise<Step> => {
        const at = await stepSequence(inbox, on.stream, delivery, 'applied');
        if (at !== 'next') return at === 'missed' ? 'duplicate' : at;
        return (await noteMessage(inbox, on.stream, delivery, 'applied')) ? 'next' : 'duplicate';
      }),
    );
    if (step === 'duplicate') await assertDuplicate(tx, on.stream, delivery);
    if (step !== 'next') return step;
    await untilDeadline`,
      },
    ],
    // A crash test catches it only if a process is killed in the few milliseconds between the two transactions.
    caughtBy: {
      detector: tests(messaging, 'failures', 'that pass: tried again, and later events wait'),
      says: /4 effects on transient: not within/,
    },
  },
  {
    name: 'dead letter under another id',
    breaks: 'a dead letter can be redriven twice, or not at all',
    edits: [
      {
        file: 'services/runtime/messaging/dead-letter.ts',
        old: `      consumer,
      delivery.messageId.slice(0, 255),`,
        new: `      consumer,
      uuidv7(),`,
      },
    ],
    caughtBy: {
      detector: tests(messaging, 'failures', 'that stay: a dead letter at once, and later events go on'),
      says: /message_id/,
    },
  },
  {
    name: 'mail without a lease',
    breaks: 'a customer gets the same e-mail twice',
    edits: [
      {
        file: 'services/runtime/jobs/queue.ts',
        old: `
       and (lease_expires_at is null or lease_expires_at < utc_timestamp(6))`,
        new: '',
      },
    ],
    caughtBy: {
      detector: tests(
        'services/notifications/service.test.ts',
        'a mail that one process is sending is not sent by another',
      ),
      says: /each mail was sent once/,
    },
  },
  {
    name: 'job result without a fence',
    breaks: 'a worker whose lease was lost gives up an e-mail that another worker is sending',
    edits: [
      {
        file: 'services/runtime/jobs/queue.ts',
        old: "and lease_token = ? and state = 'QUEUED'`",
        new: "and ? > 0 and state = 'QUEUED'`",
      },
    ],
    caughtBy: {
      detector: tests(
        'services/runtime/jobs/queue.test.ts',
        'a result is refused when the lease has gone to another worker',
      ),
      says: /expected to reject/,
    },
  },
];
