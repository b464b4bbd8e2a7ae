import { opsClient } from '@armature/clients';
import type { EventContract } from '@armature/proto/contract.ts';
import { UserDeactivatedEvent, UserErasedEvent, UserReactivatedEvent } from '@armature/proto/identity/v1/contract.ts';
import { RedriveOutcome } from '@armature/proto/ops/v1/ops.ts';
import { newId } from '@armature/runtime';
import { retryExchange, retryRoutingKey } from '@armature/runtime/messaging';
import type { ConfirmChannel } from 'amqplib';
import t from 'tap';
import { withConnection } from '../../scripts/devmesh/provision.ts';
import { connectBroker } from '../../test/support/infra.ts';
import { startService, token, workloadCertificate } from '../../test/support/service.ts';
import { clientOf, eventually } from './testbed.ts';

t.setTimeout(120_000);
const service = await startService(t, 'access');
const admin = await clientOf(service, 'admin');
t.teardown(() => admin.close());
const connection = await connectBroker(service.vhost?.url('identity') ?? '');
t.teardown(() => connection.close());
const channel: ConfirmChannel = await connection.createConfirmChannel();

const sequences = new Map<string, number>();

/** Publishes as identity would, until a queue takes it. */
async function publish(event: EventContract<{ userId: string }>, userId: string): Promise<void> {
  const sequence = (sequences.get(userId) ?? 0) + 1;
  sequences.set(userId, sequence);
  const messageId = newId();
  await eventually('a queue takes it', async () => {
    let returned = false;
    channel.once('return', () => {
      returned = true;
    });
    channel.publish('armature.events', event.routingKey, Buffer.from(event.message.encode({ userId }).finish()), {
      mandatory: true,
      messageId,
      type: event.type,
      contentType: 'application/protobuf',
      userId: 'identity',
      headers: {
        aggregate: event.aggregate,
        'aggregate-id': userId,
        sequence: String(sequence),
        'created-at-ms': String(Date.now()),
      },
    });
    await channel.waitForConfirms();
    channel.removeAllListeners('return');
    return !returned;
  });
}

/** Sends an event as if all of its attempts but the last had failed. */
async function publishLastAttempt(event: EventContract<{ userId: string }>, userId: string): Promise<void> {
  const own = await connectBroker(service.vhost?.url('access') ?? '');
  const sending = await own.createConfirmChannel();
  sequences.set(userId, 1);
  const body = Buffer.from(event.message.encode({ userId }).finish());
  sending.publish(retryExchange('access'), retryRoutingKey(1_000, 'access.identity.user'), body, {
    messageId: newId(),
    type: event.type,
    userId: 'access',
    headers: {
      ...{ aggregate: event.aggregate, 'aggregate-id': userId, sequence: '1' },
      ...{ 'armature-attempt': 6, 'armature-publisher': 'identity' },
    },
  });
  await sending.waitForConfirms();
  await own.close();
}

const may = async (user: string, permission = 'catalog.read') =>
  (await admin.checkAccess({ workload: 'workload:developer', subject: `user:${user}`, permission })).allowed;
const lastChange = async () => (await admin.listPolicyVersions({ pageSize: 1 })).versions[0];

t.test('a deactivated account is denied every permission until it is reactivated', async (t) => {
  t.ok(await may('bo', 'orders.cancel'));
  await publish(UserDeactivatedEvent, 'bo');
  await eventually('bo is denied', async () => !(await may('bo')));
  t.match(await lastChange(), { changedBy: 'service:identity', change: /user:bo was deactivated/ });
  const explained = await admin.explainAccess({
    workload: 'workload:developer',
    subject: 'user:bo',
    permission: 'catalog.read',
  });
  t.match(explained.reasons.join(' '), /user:bo is denied everything/);
  await publish(UserReactivatedEvent, 'bo');
  await eventually('bo is back', () => may('bo', 'orders.cancel'));
  t.match(await lastChange(), { changedBy: 'service:identity', change: /user:bo was reactivated/ });
});

t.test('an erased account is denied and its grants end', async (t) => {
  await admin.grantRole({ member: 'user:gone', role: 'role:staff' });
  await publish(UserErasedEvent, 'gone');
  await eventually('gone is denied', async () => !(await may('gone')));
  const { grants } = await admin.listGrants({ member: 'user:gone' });
  t.match(grants, [{ revokedBy: 'service:identity' }]);
});

t.test('an event with an invalid user id is dead-lettered and does not delay others', async (t) => {
  await publish(UserDeactivatedEvent, 'NOT-AN-ID');
  await publish(UserDeactivatedEvent, 'after');
  await eventually('after is denied', async () => !(await may('after')));
  t.pass();
});

t.test('redriving a dead-lettered deactivation does not undo a later reactivation', async (t) => {
  const sql = (text: string) => withConnection(service.database!.adminUrl, (connection) => connection.query(text));
  const operator = opsClient('access', {
    addresses: [service.grpc],
    tls: await workloadCertificate('developer'),
    token: (
      (bearer) => () =>
        bearer
    )(await token('olga')),
  });
  t.teardown(() => operator.close());
  await sql('rename table denied_subject to denied_away');
  await publishLastAttempt(UserDeactivatedEvent, 'dora');
  const deadLetter = await eventually('it is dead-lettered', async () =>
    (await operator.listDeadLetters({})).deadLetters.find(({ aggregateId }) => aggregateId === 'dora'),
  );
  await sql('rename table denied_away to denied_subject');
  await publish(UserReactivatedEvent, 'dora');
  await eventually('dora is reactivated', async () => /dora was reactivated/.test((await lastChange())?.change ?? ''));
  const { results } = await operator.redriveDeadLetters({ deadLetterIds: [deadLetter.deadLetterId] });
  t.match(results, [{ outcome: RedriveOutcome.REDRIVE_OUTCOME_FAILED, reason: /EVENT_SUPERSEDED/ }]);
  t.ok(await may('dora', 'orders.cancel'), 'an active user is not denied');
});

t.test('the denial of an account without roles compiles no rule and ends with its tokens', async (t) => {
  const sql = (text: string) => withConnection(service.database!.adminUrl, (connection) => connection.query(text));
  // A row that no policy can be compiled with.
  await sql(`insert into policy_rule (subject, permission, scope) values ('role:staff', 'no permission', 'any')`);
  await publish(UserDeactivatedEvent, 'nina');
  await eventually('nina is denied', async () => !(await may('nina')));
  const [rows] = await withConnection(service.database!.adminUrl, (connection) =>
    connection.query(
      `select end_at - interval 23 hour > utc_timestamp(6) as ends from denied_subject where subject = 'user:nina'`,
    ),
  );
  t.match(rows, [{ ends: 1 }], 'it ends by itself');
  await sql(`update denied_subject set end_at = utc_timestamp(6) where subject = 'user:nina'`);
  await eventually('it is over', () => may('nina'));
  t.match(await lastChange(), { change: /need no denial any more/ });
  await sql(`delete from policy_rule where permission = 'no permission'`);
});

t.test('deactivating the last administrator succeeds and logs an error', async (t) => {
  await publish(UserDeactivatedEvent, 'admin');
  await eventually('admin is denied', () =>
    admin.listRoles({}).then(
      () => false as const,
      (error: Error) => /not allowed/.test(error.message),
    ),
  );
  t.match(service.logs(), /the last administrator is denied/);
  await publish(UserReactivatedEvent, 'admin');
  await eventually('admin is back', () => admin.listRoles({}).catch(() => false as const));
});
