import type { EventContract } from '@armature/proto/contract.ts';
import { UserDeactivatedEvent, UserErasedEvent, UserReactivatedEvent } from '@armature/proto/identity/v1/contract.ts';
import { newId } from '@armature/runtime';
import type { ConfirmChannel } from 'amqplib';
import t from 'tap';
import { connectBroker } from '../../test/support/infra.ts';
import { startService } from '../../test/support/service.ts';
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

const may = async (user: string, permission = 'catalog.read') =>
  (await admin.checkAccess({ workload: 'workload:developer', subject: `user:${user}`, permission })).allowed;
const lastChange = async () => (await admin.listPolicyVersions({ pageSize: 1 })).versions[0];

t.test('a deactivated account is denied everything, until it is reactivated', async (t) => {
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

t.test('an erased account is denied and loses what it was given', async (t) => {
  await admin.grantRole({ member: 'user:gone', role: 'role:staff' });
  await publish(UserErasedEvent, 'gone');
  await eventually('gone is denied', async () => !(await may('gone')));
  const { grants } = await admin.listGrants({ member: 'user:gone' });
  t.match(grants, [{ revokedBy: 'service:identity' }]);
});

t.test('an id that is none is set aside and holds nothing up', async (t) => {
  await publish(UserDeactivatedEvent, 'NOT-AN-ID');
  await publish(UserDeactivatedEvent, 'after');
  await eventually('after is denied', async () => !(await may('after')));
  t.pass();
});

t.test('the last administrator is deactivated: a fact, and an error in the log', async (t) => {
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
