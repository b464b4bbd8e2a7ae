import { setTimeout as sleep } from 'node:timers/promises';
import type { EventContract } from '@armature/proto/contract.ts';
import { newId } from '@armature/runtime';
import type { ConfirmChannel } from 'amqplib';
import type { RowDataPacket } from 'mysql2/promise';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import { connectBroker } from '../../support/infra.ts';
import type { RunningService } from '../../support/service.ts';
import type { Claim, EventCode } from './matrix.ts';

/** One attempt to publish an event: the account, and the service in whose name it publishes. */
export interface Attempt {
  event: EventContract;
  claim: Claim;
  /** A service's broker account, or one of the outsiders. */
  account: string;
}

/** How long the broker may take to deliver an accepted message before it counts as lost. */
const arrivalTimeoutMs = 15_000;

/**
 * Publishes as the attempt says, and returns the result. Each attempt uses the first event of a new aggregate, so that
 * nothing else can cause the result.
 */
export async function attempt({ event, claim, account }: Attempt, consumer: RunningService): Promise<EventCode> {
  const { vhost } = consumer;
  if (!vhost) throw new Error(`${consumer.name} has no broker`);
  const url = account === 'operator' ? vhost.adminUrl : vhost.url(account === 'stranger' ? 'nobody' : account);
  const connection = await connectBroker(url).catch((error: Error) => error);
  if (connection instanceof Error) {
    if (!/ACCESS[_-]REFUSED|NOT_ALLOWED/i.test(connection.message)) throw connection;
    return 'R';
  }
  const messageId = newId();
  try {
    const channel = await connection.createConfirmChannel();
    const name = decodeURIComponent(new URL(url).username);
    const taken = await publish(channel, messageId, {
      key: claim === 'its own key' ? event.routingKey.replace(/^[^.]+/, name) : event.routingKey,
      user: claim === 'the producer' ? event.source : name,
      event,
    });
    if (taken !== 'routed') return taken === 'refused' ? 'R' : 'L';
  } finally {
    // A refused user-id or routing key closes the channel, and in some cases the connection.
    await connection.close().catch((error: Error) => {
      if (!/closed|closing/i.test(error.message)) throw error;
    });
  }
  return arrival(consumer, messageId);
}

/** Whether the broker routed the message to a queue. */
async function publish(
  channel: ConfirmChannel,
  messageId: string,
  { key, user, event }: { key: string; user: string; event: EventContract },
): Promise<'routed' | 'lost' | 'refused'> {
  const aggregateId = newId();
  let returned = false;
  channel.on('return', () => {
    returned = true;
  });
  const refused = new Promise<'refused'>((resolve, reject) => {
    channel.once('error', (error: Error & { code?: number }) => {
      // 403 is ACCESS_REFUSED, 406 a user-id of another account.
      if (error.code === 403 || error.code === 406) resolve('refused');
      else reject(error);
    });
  });
  channel.publish('armature.events', key, bodyOf(event, aggregateId), {
    mandatory: true,
    messageId,
    type: event.type,
    contentType: 'application/protobuf',
    userId: user,
    headers: { aggregate: event.aggregate, 'aggregate-id': aggregateId, sequence: '1' },
  });
  const confirmed = channel.waitForConfirms().then(
    (): 'lost' | 'routed' => (returned ? 'lost' : 'routed'),
    () => refused,
  );
  return Promise.race([confirmed, refused]);
}

/** An event body with only the id of its aggregate, which is enough here. */
function bodyOf(event: EventContract, aggregateId: string): Buffer {
  const id = `${event.aggregate}Id`;
  return Buffer.from(event.message.encode(event.message.fromPartial({ [id]: aggregateId })).finish());
}

/** Waits until the message is applied or dead-lettered: both leave a row. */
async function arrival(consumer: RunningService, messageId: string): Promise<EventCode> {
  const { database } = consumer;
  if (!database) throw new Error(`${consumer.name} has no schema`);
  const deadline = Date.now() + arrivalTimeoutMs;
  return withConnection(database.adminUrl, async (connection) => {
    for (;;) {
      const [rows] = await connection.query<RowDataPacket[]>(
        `select 'A' as code from inbox where message_id = ? and outcome = 'applied'
         union all select 'X' from dead_letter where message_id = ?`,
        [messageId, messageId],
      );
      if (rows[0]) return rows[0].code as EventCode;
      if (Date.now() > deadline)
        throw new Error(`${messageId} was accepted by the broker, but neither applied nor dead-lettered in time`);
      await sleep(50);
    }
  });
}
