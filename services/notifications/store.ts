import { newId, type Page, type SqlReader, type Tx, utcDate } from '@armature/runtime';
import type { Delivery, MailData, State, Template } from './delivery.ts';
import { type DeliveryRow, deliveryQueue } from './delivery-queue.ts';
import { deliveryInProgress, deliveryNotFound } from './errors.ts';

export type DeliveryStore = ReturnType<typeof deliveryStore>;

export function deliveryStore(config: Parameters<typeof deliveryQueue>[0]) {
  const queue = deliveryQueue(config);
  return {
    queue,

    /** Queues an e-mail to a customer. */
    async enqueue(
      tx: Tx,
      wanted: { orderId: string; customerId: string; template: Template; data: MailData },
    ): Promise<void> {
      const id = newId();
      const columns = {
        order_id: wanted.orderId,
        customer_id: wanted.customerId,
        template: wanted.template,
        recipient: '',
        data_json: JSON.stringify(wanted.data),
        mail_message_id: `<${id}@shop.armature.local>`,
      };
      await queue.enqueue(tx, { id, columns });
    },

    async find(sql: SqlReader, deliveryId: string): Promise<Delivery> {
      const rows = await sql.query<DeliveryRow>('select * from delivery where delivery_id = ?', [deliveryId]);
      if (!rows[0]) throw deliveryNotFound(deliveryId);
      return toDelivery(rows[0]);
    },

    /** Newest first; one row more than the page, when there is one. */
    async list(
      sql: SqlReader,
      filter: { customerId: string; orderId: string; state: State | null },
      page: Page<[string]>,
    ): Promise<Delivery[]> {
      const conditions = ['delivery_id < ?'];
      const params: (string | number)[] = [page.after?.[0] ?? 'g'];
      if (filter.customerId) {
        conditions.push('customer_id = ?');
        params.push(filter.customerId);
      }
      if (filter.orderId) {
        conditions.push('order_id = ?');
        params.push(filter.orderId);
      }
      if (filter.state) {
        conditions.push('state = ?');
        params.push(filter.state);
      }
      const rows = await sql.query<DeliveryRow>(
        `select * from delivery where ${conditions.join(' and ')} order by delivery_id desc limit ?`,
        [...params, page.size + 1],
      );
      return rows.map(toDelivery);
    },

    /**
     * Queues a delivery that was sent or given up again; one that was skipped stays so. Throws DELIVERY_NOT_FOUND and
     * DELIVERY_IN_PROGRESS.
     */
    async resend(tx: Tx, deliveryId: string): Promise<Delivery> {
      const queued = await queue.requeue(tx, deliveryId);
      const delivery = await this.find(tx, deliveryId);
      if (!queued && delivery.state !== 'SKIPPED') throw deliveryInProgress(deliveryId);
      return delivery;
    },

    /**
     * Erases what deliveries of a customer hold beyond ids and purchases: addresses of earlier releases, and errors of
     * mail servers, which quote addresses. Returns the Message-IDs of the customer's e-mails.
     */
    async erase(tx: Tx, customerId: string): Promise<string[]> {
      await tx.execute(
        `update delivery set recipient = '', last_error = '' where customer_id = ? and (recipient <> '' or last_error <> '')`,
        [customerId],
      );
      const rows = await tx.query<{ id: string }>('select mail_message_id as id from delivery where customer_id = ?', [
        customerId,
      ]);
      return rows.map(({ id }) => id);
    },
  };
}

export function toDelivery(row: DeliveryRow): Delivery {
  return {
    deliveryId: row.delivery_id,
    orderId: row.order_id,
    customerId: row.customer_id,
    template: row.template,
    recipient: row.recipient,
    data: JSON.parse(row.data_json) as MailData,
    state: row.state,
    attempts: row.attempts,
    lastError: row.last_error,
    mailMessageId: row.mail_message_id,
    createdAt: utcDate(row.created_at),
    sentAt: row.sent_at === null ? null : utcDate(row.sent_at),
    nextAttemptAt: row.state === 'QUEUED' ? utcDate(row.next_attempt_at) : null,
  };
}
