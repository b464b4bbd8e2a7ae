import { type Database, newId, type Page, type PeriodicJob, type SqlReader, type Tx, utcDate } from '@armature/runtime';
import type { Delivery, MailData, State, Template } from './delivery.ts';
import { deliveryInProgress, deliveryNotFound } from './errors.ts';

/** A sender that has not reported within this is taken for dead. */
const leaseSeconds = 30;
const leaseBatch = 20;

/** A delivery together with the token that proves the lease. */
export interface LeasedDelivery extends Delivery {
  leaseToken: bigint;
}

export type DeliveryStore = ReturnType<typeof deliveryStore>;

export function deliveryStore() {
  return {
    /** Deletes deliveries that were sent long ago, a bounded number at a time; those that failed are kept. */
    retention: (db: Database, days: number): PeriodicJob => ({
      name: 'deliveries past',
      everyMs: 600_000,
      async run(call) {
        const { affectedRows } = await db.write(call, (sql) =>
          sql.execute(
            `delete from delivery where state = 'SENT' and created_at < utc_timestamp(6) - interval ? day
             order by created_at limit 500`,
            [days],
          ),
        );
        return affectedRows;
      },
    }),

    async queue(
      tx: Tx,
      wanted: { orderId: string; customerId: string; recipient: string; template: Template; data: MailData },
    ): Promise<void> {
      const deliveryId = newId();
      await tx.execute(
        `insert into delivery (delivery_id, order_id, customer_id, template, recipient, data_json, state,
           mail_message_id, created_at, next_attempt_at)
         values (?, ?, ?, ?, ?, ?, 'QUEUED', ?, utc_timestamp(6), utc_timestamp(6))`,
        [
          deliveryId,
          wanted.orderId,
          wanted.customerId,
          wanted.template,
          wanted.recipient,
          JSON.stringify(wanted.data),
          `<${deliveryId}@shop.armature.local>`,
        ],
      );
    },

    /** Takes due deliveries for this sender alone; each gets a new, higher token. */
    async leaseDue(tx: Tx): Promise<LeasedDelivery[]> {
      const rows = await tx.query<DeliveryRow>(
        `select * from delivery
         where state = 'QUEUED' and next_attempt_at <= utc_timestamp(6)
           and (lease_expires_at is null or lease_expires_at < utc_timestamp(6))
         order by next_attempt_at limit ${leaseBatch} for update skip locked`,
      );
      if (rows.length === 0) return [];
      await tx.execute(
        `update delivery set lease_token = lease_token + 1,
           lease_expires_at = utc_timestamp(6) + interval ${leaseSeconds} second where delivery_id in (?)`,
        [rows.map((row) => row.delivery_id)],
      );
      return rows.map((row) => ({ ...toDelivery(row), leaseToken: BigInt(row.lease_token) + 1n }));
    },

    /** Records an attempt. False when the lease has gone to somebody else: then nothing is changed. */
    async record(
      tx: Tx,
      { deliveryId, leaseToken }: LeasedDelivery,
      result: { state: State; attempts: number; lastError: string; waitMs: number },
    ): Promise<boolean> {
      const { affectedRows } = await tx.execute(
        `update delivery set state = ?, attempts = ?, last_error = ?, lease_expires_at = null,
           sent_at = if(? = 'SENT', utc_timestamp(6), sent_at),
           next_attempt_at = utc_timestamp(6) + interval ? microsecond
         where delivery_id = ? and lease_token = ? and state = 'QUEUED'`,
        [
          result.state,
          result.attempts,
          result.lastError.slice(0, 500),
          result.state,
          result.waitMs * 1_000,
          deliveryId,
          leaseToken,
        ],
      );
      return affectedRows === 1;
    },

    async find(sql: SqlReader, deliveryId: string): Promise<Delivery> {
      const rows = await sql.query<DeliveryRow>('select * from delivery where delivery_id = ?', [deliveryId]);
      if (!rows[0]) throw deliveryNotFound(deliveryId);
      return toDelivery(rows[0]);
    },

    /** Newest first; one row more than the page, when there is one. */
    async list(
      sql: SqlReader,
      filter: { orderId: string; state: State | null },
      page: Page<[string]>,
    ): Promise<Delivery[]> {
      const conditions = ['delivery_id < ?'];
      const params: (string | number)[] = [page.after?.[0] ?? 'g'];
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

    /** Puts a delivery that came to an end back in the queue. */
    async resend(tx: Tx, deliveryId: string): Promise<Delivery> {
      const { affectedRows } = await tx.execute(
        `update delivery set state = 'QUEUED', attempts = 0, last_error = '', next_attempt_at = utc_timestamp(6)
         where delivery_id = ? and state <> 'QUEUED'`,
        [deliveryId],
      );
      const delivery = await this.find(tx, deliveryId);
      if (affectedRows === 0) throw deliveryInProgress(deliveryId);
      return delivery;
    },
  };
}

interface DeliveryRow {
  delivery_id: string;
  order_id: string;
  customer_id: string;
  template: Template;
  recipient: string;
  data_json: string;
  state: State;
  attempts: number;
  last_error: string;
  mail_message_id: string;
  lease_token: string | number;
  created_at: string;
  sent_at: string | null;
  next_attempt_at: string;
}

function toDelivery(row: DeliveryRow): Delivery {
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
