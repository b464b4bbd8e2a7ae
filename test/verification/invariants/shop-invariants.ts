// Invariants of stock, orders and money: customers get what they paid for, and pay for what they get.
import { reasons } from '../../../services/orders/reason.ts';
import { sagaDefinitions } from '../../../services/orders/testbed.ts';
import { bySql, type Invariant } from './invariant.ts';

export const shopInvariants: readonly Invariant[] = [
  bySql(
    'I10',
    'no stock level is below its reserved quantity',
    'units were sold that are not there',
    'select sku, location_id, on_hand, reserved from {inventory}.stock where reserved < 0 or reserved > on_hand',
  ),
  bySql(
    'I11',
    'what is reserved is what live reservations hold',
    'units are lost to sale, or promised twice',
    `select s.sku, s.location_id, s.reserved from {inventory}.stock s
       left join {inventory}.reservation_line l on l.sku = s.sku and l.location_id = s.location_id
       left join {inventory}.reservation r on r.reservation_id = l.reservation_id
     group by s.sku, s.location_id, s.reserved
     having s.reserved <> coalesce(sum(if(r.state = 'HELD', l.quantity, 0)), 0)`,
  ),
  bySql(
    'I11',
    'what is on hand is what came and went',
    'the journal does not explain the shelf',
    `select s.sku, s.location_id, s.on_hand from {inventory}.stock s
       left join {inventory}.movement m on m.sku = s.sku and m.location_id = s.location_id
     group by s.sku, s.location_id, s.on_hand
     having s.on_hand <> coalesce(sum(if(m.kind = 'SHIP', -abs(m.quantity), m.quantity)), 0)`,
  ),
  bySql(
    'I12',
    'no reservation is active past its expiry',
    'units wait for an order that will not come',
    `select reservation_id, order_id, expires_at from {inventory}.reservation
     where state = 'HELD' and expires_at < utc_timestamp(6) - interval 10 + {grace} second`,
  ),
  bySql(
    'I13',
    'every accepted order has ended in time',
    'a customer waits for an order that no worker processes',
    `select order_id, state from {orders}.orders
     where (state not in ('COMPLETED', 'REJECTED', 'CANCELLED') or (state = 'COMPLETED' and cancel_requested = 1))
       and updated_at <= utc_timestamp(6) - interval {grace} second`,
  ),
  bySql(
    'I13',
    'an order is under way exactly while a saga works on it',
    'an order waits and no saga will end it, or is changed after its end',
    `select o.order_id, o.state, o.cancel_requested, live.subject_id is not null as has_saga from {orders}.orders o
       left join (select distinct subject_id from {orders}.saga where status in ('RUNNING', 'WAITING', 'STUCK')) live
         on live.subject_id = o.order_id
     where (o.state in ('PENDING', 'CONFIRMED') or (o.state = 'COMPLETED' and o.cancel_requested = 1))
       <> (live.subject_id is not null)`,
  ),
  bySql(
    'I13',
    'no saga is stuck',
    'an order needs an operator',
    `select saga_id, name, subject_id, state from {orders}.saga where status = 'STUCK'`,
  ),
  bySql(
    'I14',
    'a rejected or cancelled order names a reason of the contract, and no other order names one',
    'a customer is not told why, or told what no document explains',
    `select order_id, state, reason from {orders}.orders
     where (state in ('REJECTED', 'CANCELLED')) <> (reason in (${reasons.map((reason) => `'${reason}'`).join(', ')}))
       or (state not in ('REJECTED', 'CANCELLED') and reason <> '')`,
  ),
  bySql(
    'I14',
    'a completed order is paid in full, refunded by no more, and its units are taken; a free one has no payment',
    'a customer got units that were not paid for, or paid for units that were not taken',
    `select o.order_id from {orders}.orders o
       left join {payments}.payment p on p.order_id = o.order_id
       left join {inventory}.reservation r on r.reservation_id = o.reservation_id
     where o.state = 'COMPLETED' and o.cancel_requested = 0 and not coalesce(
       r.state = 'COMMITTED' and if(o.total_minor = 0, o.payment_id = '' and p.payment_id is null,
         p.payment_id = o.payment_id and p.currency_code = o.currency_code
         and p.captured_minor = o.total_minor and p.refunded_minor <= p.captured_minor), false)`,
  ),
  bySql(
    'I14',
    'a rejected or cancelled order has taken neither money nor units',
    'a customer paid for nothing, or units are lost',
    `select o.order_id from {orders}.orders o
       left join {payments}.payment p on p.order_id = o.order_id
       left join {inventory}.reservation r on r.reservation_id = o.reservation_id
     where o.state in ('REJECTED', 'CANCELLED') and (coalesce(p.captured_minor - p.refunded_minor, 0) <> 0
       or coalesce(p.state, '') in ('PENDING', 'AUTHORIZED') or coalesce(r.state, '') in ('HELD', 'COMMITTED'))`,
  ),
  bySql(
    'I14',
    'every payment is the one of its order, and every reservation belongs to an order',
    'money or units are held for an order that does not know of them',
    `select p.order_id from {payments}.payment p left join {orders}.orders o on o.order_id = p.order_id
     where o.order_id is null or o.payment_id <> p.payment_id
     union all select r.order_id from {inventory}.reservation r left join {orders}.orders o on o.order_id = r.order_id
     where o.order_id is null`,
  ),
  bySql(
    'I29',
    'no saga that has ended keeps what pays',
    'a payment method can be read and used again',
    `select saga_id, name from {orders}.saga
     where status in ('COMPLETED', 'FAILED') and json_extract(data, '$.paymentMethod') is not null`,
  ),
  {
    id: 'I30',
    name: 'no address of an erased customer is left in orders that have ended, nor in e-mails',
    meaning: 'personal data is kept that a person had erased',
    async find(shopData) {
      if (!shopData.services.includes('identity')) return [];
      const sql = `select 'order' as kind, o.order_id as id from {identity}.account a
           join {orders}.orders o on o.customer_id = a.user_id
         where a.state = 'ERASED' and (o.contact_email <> '' or o.address_json <> '')
           and (o.state in ('REJECTED', 'CANCELLED') or (o.state = 'COMPLETED' and o.cancel_requested = 0))
           and greatest(a.updated_at, o.updated_at) <= utc_timestamp(6) - interval {grace} second
         union all select 'delivery', d.delivery_id from {identity}.account a
           join {notifications}.delivery d on d.customer_id = a.user_id
         where a.state = 'ERASED' and d.recipient <> '' and a.updated_at <= utc_timestamp(6) - interval {grace} second
         union all select 'account', a.user_id from {identity}.account a
         where a.state = 'ERASED' and (a.email <> '' or a.display_name <> '' or a.verified_email is not null)
         union all select 'order', o.order_id from {orders}.orders o
         where o.erased_at is not null and (o.contact_email <> '' or o.address_json <> '')`;
      return shopData.query(sql.replaceAll('{grace}', String(shopData.graceSeconds)));
    },
  },
  {
    id: 'I13',
    name: 'every saga that has not ended runs a version that is known',
    meaning: 'no worker will take it up again',
    async find(shopData) {
      const live = await shopData.query<{ name: string; definition_version: number }>(
        `select name, definition_version, count(*) as sagas from {orders}.saga
         where status in ('RUNNING', 'WAITING', 'STUCK') group by name, definition_version`,
      );
      const known = new Set(sagaDefinitions().map(({ name, version }) => `${name} ${version}`));
      return live.filter(({ name, definition_version }) => !known.has(`${name} ${definition_version}`));
    },
  },
  bySql(
    'I16',
    'nothing is compensated while an outcome is unknown',
    'a charge may stand that was taken for failed',
    `select saga_id, position, step from (
       select saga_id, position, step, kind, lag(kind) over (partition by saga_id order by position) as kind_before,
         lag(outcome) over (partition by saga_id order by position) as outcome_before
       from {orders}.saga_log) steps
     where kind = 'compensate' and kind_before in ('run', 'query') and outcome_before = 'unknown'`,
  ),
];
