import { NotificationServiceContract } from '@armature/proto/notifications/v1/contract.ts';
import { type Delivery as DeliveryMessage, DeliveryState } from '@armature/proto/notifications/v1/notifications.ts';
import { closePage, type Database, implement, openPage, ownsOrCanAccessAny, runIdempotent } from '@armature/runtime';
import type { Delivery, State } from './delivery.ts';
import { deliveryNotFound } from './errors.ts';
import type { DeliveryStore } from './store.ts';

export const notificationService = (db: Database, store: DeliveryStore) =>
  implement(NotificationServiceContract, {
    async listDeliveries(message, call) {
      const { customerId, orderId } = message;
      const filter = { customerId, orderId, state: stateOf(message.state) };
      const page = openPage<[string]>(message, 50, [filter]);
      const rows = await db.read(call, (sql) => store.list(sql, filter, page));
      const { items, nextPageToken } = closePage(rows, page, (delivery): [string] => [delivery.deliveryId]);
      return { deliveries: items.map(toMessage), nextPageToken };
    },

    async getDelivery({ deliveryId }, call) {
      const delivery = await db.read(call, (sql) => store.find(sql, deliveryId));
      if (!ownsOrCanAccessAny(call, delivery.customerId)) throw deliveryNotFound(deliveryId);
      return toMessage(delivery);
    },

    async resendDelivery({ deliveryId }, call) {
      return runIdempotent(db, call, async (tx) => toMessage(await store.resend(tx, deliveryId)));
    },
  });

const states: Record<State, DeliveryMessage['state']> = {
  QUEUED: DeliveryState.DELIVERY_STATE_QUEUED,
  SENT: DeliveryState.DELIVERY_STATE_SENT,
  DEAD: DeliveryState.DELIVERY_STATE_DEAD,
  SKIPPED: DeliveryState.DELIVERY_STATE_SKIPPED,
};

function stateOf(value: DeliveryMessage['state']): State | null {
  const found = Object.entries(states).find(([, number]) => number === value);
  return found ? (found[0] as State) : null;
}

function toMessage(delivery: Delivery): DeliveryMessage {
  return {
    deliveryId: delivery.deliveryId,
    orderId: delivery.orderId,
    customerId: delivery.customerId,
    template: delivery.template,
    recipient: '',
    state: states[delivery.state],
    attempts: delivery.attempts,
    lastError: delivery.lastError,
    mailMessageId: delivery.mailMessageId,
    createTime: delivery.createdAt,
    sendTime: delivery.sentAt ?? undefined,
    nextAttemptTime: delivery.nextAttemptAt ?? undefined,
  };
}
