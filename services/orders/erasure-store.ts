import type { SqlReader, Tx } from '@armature/runtime';
import { eraseStoredResponses } from '@armature/runtime/idempotency';
import { orderNotFound } from './errors.ts';

/** Orders that one transaction erases. */
const batchMax = 100;

/** A customer whose account was erased, and whose orders are due to be looked at. */
export interface DueErasure {
  customerId: string;
  /** Since the erasure arrived here. */
  ageSeconds: number;
}

export type ErasureStore = ReturnType<typeof erasureStore>;

/** Whose personal data is to be erased, and its erasure from orders. */
export const erasureStore = () => ({
  /** Remembers that the account of a customer was erased. Doing it again looks at all orders again. */
  async record(tx: Tx, customerId: string): Promise<void> {
    await tx.execute(
      `insert into erased_customer (customer_id, erased_at, due_at) values (?, utc_timestamp(6), utc_timestamp(6))
       on duplicate key update due_at = utc_timestamp(6)`,
      [customerId],
    );
  },

  /**
   * Where e-mails about an order go. Empty as soon as the account of the customer was erased, also while the order is in
   * progress. Throws ORDER_NOT_FOUND.
   */
  async contactOf(sql: SqlReader, orderId: string): Promise<string> {
    const [row] = await sql.query<{ contact: string }>(
      `select if(e.customer_id is null, o.contact_email, '') as contact
       from orders o left join erased_customer e on e.customer_id = o.customer_id where o.order_id = ?`,
      [orderId],
    );
    if (!row) throw orderNotFound(orderId);
    return row.contact;
  },

  /** The customers that are due, the longest first. */
  async due(sql: SqlReader, limit: number): Promise<DueErasure[]> {
    const rows = await sql.query<{ customer_id: string; age: number | string }>(
      `select customer_id, timestampdiff(second, erased_at, utc_timestamp(6)) as age from erased_customer
       where due_at <= utc_timestamp(6) order by due_at limit ?`,
      [limit],
    );
    return rows.map((row) => ({ customerId: row.customer_id, ageSeconds: Number(row.age) }));
  },

  /** Erases up to 100 orders of a customer that have ended. Returns whether there may be more. */
  async eraseEnded(tx: Tx, customerId: string): Promise<boolean> {
    const rows = await tx.query<{ order_id: string }>(
      `select order_id from orders where customer_id = ? and erased_at is null
         and (state in ('REJECTED', 'CANCELLED') or (state = 'COMPLETED' and cancel_requested = 0))
       limit ? for update`,
      [customerId, batchMax],
    );
    if (rows.length === 0) return false;
    const ids = rows.map((row) => row.order_id);
    for (const id of ids) await tx.execute('call mask_order_contact(?)', [id]);
    await tx.execute(
      `update orders set contact_email = '', address_json = '', erased_at = utc_timestamp(6) where order_id in (?)`,
      [ids],
    );
    await eraseStoredResponses(tx, customerId);
    return ids.length === batchMax;
  },

  /** Whether a customer has orders that are not erased, because they have not ended. */
  async hasUnerased(sql: SqlReader, customerId: string): Promise<boolean> {
    const rows = await sql.query('select 1 from orders where customer_id = ? and erased_at is null limit 1', [
      customerId,
    ]);
    return rows.length > 0;
  },

  /** Sets when the customer is due again; null: never. */
  async schedule(tx: Tx, customerId: string, afterSeconds: number | null): Promise<void> {
    await tx.execute('update erased_customer set due_at = utc_timestamp(6) + interval ? second where customer_id = ?', [
      afterSeconds,
      customerId,
    ]);
  },
});
