import type { RowDataPacket } from 'mysql2/promise';
import { connectMysql } from '../../scripts/servers/mysql.ts';
import { booksInOrder } from '../../services/payments/testbed.ts';
import type { Teardown } from '../support/infra.ts';
import type { Shop } from './shop.ts';

/**
 * What must hold across services once nothing moves any more, as queries over the schemas of all of them: none
 * may return a row.
 */
const laws: Readonly<Record<string, string>> = {
  'a level is never below what is held of it': `
    select sku from inventory.stock where reserved < 0 or reserved > on_hand`,
  'what is reserved is what live reservations hold': `
    select s.sku, s.location_id, s.reserved from inventory.stock s
      left join inventory.reservation_line l on l.sku = s.sku and l.location_id = s.location_id
      left join inventory.reservation r on r.reservation_id = l.reservation_id
    group by s.sku, s.location_id, s.reserved
    having s.reserved <> coalesce(sum(if(r.state = 'HELD', l.quantity, 0)), 0)`,
  'what is on hand is what came and went': `
    select s.sku, s.location_id, s.on_hand from inventory.stock s
      left join inventory.movement m on m.sku = s.sku and m.location_id = s.location_id
    group by s.sku, s.location_id, s.on_hand
    having s.on_hand <> coalesce(sum(if(m.kind = 'SHIP', -abs(m.quantity), m.quantity)), 0)`,
  'an order has ended': `
    select order_id, state from orders.orders where state not in ('COMPLETED', 'REJECTED', 'CANCELLED')`,
  'a refused order says why': `
    select order_id from orders.orders where state in ('REJECTED', 'CANCELLED') and reason = ''`,
  'the events of an order are numbered without gaps': `
    select o.order_id from orders.orders o left join orders.order_event e on e.order_id = o.order_id
    group by o.order_id, o.sequence having count(*) <> o.sequence or max(e.sequence) <> o.sequence`,
  'a completed order is paid in full, once, and its units are taken': `
    select o.order_id from orders.orders o
      left join payments.payment p on p.payment_id = o.payment_id
      left join inventory.reservation r on r.reservation_id = o.reservation_id
    where o.state = 'COMPLETED' and not coalesce(p.captured_minor = o.total_minor and p.refunded_minor = 0
      and r.state = 'COMMITTED', false)`,
  'an order that came to nothing has taken neither money nor units': `
    select o.order_id from orders.orders o
      left join payments.payment p on p.payment_id = o.payment_id
      left join inventory.reservation r on r.reservation_id = o.reservation_id
    where o.state in ('REJECTED', 'CANCELLED') and (coalesce(p.captured_minor - p.refunded_minor, 0) <> 0
      or coalesce(p.state, '') in ('PENDING', 'AUTHORIZED') or coalesce(r.state, '') in ('HELD', 'COMMITTED'))`,
  'nothing is paid or held without an order': `
    select p.order_id from payments.payment p left join orders.orders o on o.order_id = p.order_id
    where o.order_id is null
    union all select r.order_id from inventory.reservation r left join orders.orders o on o.order_id = r.order_id
    where o.order_id is null`,
  'no message is dead': `
    select 'orders' as service from orders.dead_letter union all select 'payments' from payments.dead_letter
    union all select 'inventory' from inventory.dead_letter
    union all select 'notifications' from notifications.dead_letter`,
};

/** Answers a function that throws, for a shop at rest, unless every law holds; it says which are broken. */
export async function lawsOf(t: Teardown, shop: Shop): Promise<() => Promise<void>> {
  const payments = shop.service('payments').database!;
  const connection = await connectMysql(payments.adminUrl);
  t.teardown(() => connection.end());
  const schemas = Object.values(shop.mesh).flatMap(({ name, database }) => (database ? [[name, database.schema]] : []));
  const query = async (sql: string, values: readonly unknown[] = []) =>
    (await connection.query<RowDataPacket[]>({ sql, values: [...values], dateStrings: true }))[0];
  return async () => {
    const broken: string[] = [];
    for (const [law, sql] of Object.entries(laws)) {
      const text = schemas.reduce(
        (text, [name, schema]) => text.replaceAll(new RegExp(`\\b${name}\\.(?=[a-z_]+\\b)`, 'g'), `\`${schema}\`.`),
        sql,
      );
      const rows = await query(text);
      if (rows.length > 0) broken.push(`${law}: ${JSON.stringify(rows.slice(0, 5))} (${rows.length})`);
    }
    const acquirer = `http://${shop.service('acquirer').http}`;
    try {
      await booksInOrder(query, acquirer, await shop.staff.ledger.getTrialBalance({}));
    } catch (error) {
      broken.push(String(error));
    }
    if (broken.length > 0) throw new Error(broken.join('\n'));
  };
}
