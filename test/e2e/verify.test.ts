// Breaks every invariant on purpose, one after another, and checks that it is found. Each break is made in a
// transaction that is rolled back afterwards.
import t from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { invariants } from '../verification/invariants/invariants.ts';
import { openShopData } from '../verification/invariants/shop-data.ts';
import { shopDataOf, wrongAtRest } from './invariant-check.ts';
import { buy, follow, openShop, stateName, wish } from './shop.ts';

t.setTimeout(280_000);
const shop = await openShop(t);
const sku = await shop.stock(10n);
const completed = await buy(shop.customer, wish(sku));
const declined = await buy(shop.customer, wish(sku, { paymentMethod: 'card_declined' }));

const cancelled = await buy(shop.customer, wish(sku));
const { sequence } = await shop.customer.orders.cancelOrder({ orderId: cancelled.orderId });
await follow(shop.customer, cancelled.orderId, sequence);

const connection = await connectMysql(shop.service('payments').database!.adminUrl);
t.teardown(() => connection.end());
const settled = await shopDataOf(t, shop);
const stores = Object.values(shop.mesh).flatMap(({ name, database }) => (database ? [[name, database.schema]] : []));
const shopData = openShopData({
  connection,
  schemas: Object.fromEntries(stores),
  acquirerUrl: settled.acquirerUrl,
  graceSeconds: 0,
});

const order = `'${completed.orderId}'`;
const payment = `'${completed.paymentId}'`;
const aUuid = "'00000000-0000-4000-8000-000000000000'";

/** For each invariant by name, statements that each break it. */
const breaks: Readonly<Record<string, string[]>> = {
  'every entry balances per currency, holds and settled apart': [
    'update {payments}.ledger_posting set amount_minor = amount_minor + 1 limit 1',
  ],
  'the whole book balances per currency': [
    "update {payments}.account_balance set posted_minor = posted_minor + 1 where account = 'sales' limit 1",
  ],
  'a cached balance equals the sum of its postings': [
    "update {payments}.account_balance set pending_minor = pending_minor + 1 where account = 'sales' limit 1",
  ],
  'no account is on its wrong side': ["update {payments}.account_balance set posted_minor = 1 where account = 'sales'"],
  'postings belong to entries, and the entries of a payment are numbered without gaps': [
    `delete from {payments}.ledger_entry where payment_id = ${payment} and sequence = 1`,
  ],
  'a hold is made, captured, voided or expired at most once': [
    `insert into {payments}.ledger_entry (entry_id, payment_id, sequence, kind, external_id, hash, created_at)
     select ${aUuid}, payment_id, 9, kind, 'twice', hash, created_at from {payments}.ledger_entry
     where payment_id = ${payment} and kind = 'capture'`,
  ],
  'refunds stay within the capture, and a payment agrees with its postings': [
    `update {payments}.payment set captured_minor = captured_minor - 1 where payment_id = ${payment}`,
  ],
  'a hold stands exactly while its payment is authorized': [
    `update {payments}.payment set state = 'AUTHORIZED' where payment_id = ${payment}`,
  ],
  'what operations have under way is what the payment has reserved': [
    `update {payments}.payment_operation set state = 'PENDING' where payment_id = ${payment} limit 1`,
  ],
  'the chain of every payment is whole': [
    `update {payments}.ledger_entry set external_id = 'another' where payment_id = ${payment} and kind = 'capture'`,
  ],
  'every order of a response exists, and belongs to one request only': [
    `delete from {orders}.orders where order_id = ${order}`,
  ],
  'the ledger equals the log of the acquirer, both ways': [
    `delete from {payments}.ledger_entry where payment_id = ${payment} and kind = 'capture'`,
  ],
  'no address of an erased customer is left in orders that have ended, nor in e-mails': [
    `insert into {identity}.account (user_id, email, display_name, state, sequence, created_at, updated_at)
     values ('ada', '', '', 'ERASED', 1, utc_timestamp(6), utc_timestamp(6))
     on duplicate key update state = 'ERASED', email = '', display_name = '', verified_email = null`,
    `update {orders}.orders set erased_at = utc_timestamp(6) where order_id = ${order}`,
  ],
  'no stock level is below its reserved quantity': ['update {inventory}.stock set reserved = on_hand + 1 limit 1'],
  'what is reserved is what live reservations hold': [
    "update {inventory}.reservation set state = 'HELD' where state = 'COMMITTED'",
  ],
  'what is on hand is what came and went': ['update {inventory}.stock set on_hand = on_hand + 1 limit 1'],
  'no reservation is active past its expiry': [
    `update {inventory}.reservation set state = 'HELD', expires_at = utc_timestamp(6) - interval 1 minute limit 1`,
  ],
  'every accepted order has ended in time': [`update {orders}.orders set state = 'PENDING' where order_id = ${order}`],
  'an order is under way exactly while a saga works on it': [
    `update {orders}.orders set cancel_requested = 1 where order_id = ${order}`,
    `update {orders}.orders set state = 'CONFIRMED' where order_id = ${order}`,
    `update {orders}.saga set status = 'STUCK' where subject_id = ${order}`,
  ],
  'no saga is stuck': ["update {orders}.saga set status = 'STUCK' limit 1"],
  'a rejected or cancelled order names a reason of the contract, and no other order names one': [
    `update {orders}.orders set reason = '' where order_id = '${declined.orderId}'`,
    `update {orders}.orders set reason = 'FIELDS_INVALID' where order_id = '${declined.orderId}'`,
    `update {orders}.orders set reason = 'TIME_LIMIT' where order_id = ${order}`,
  ],
  'no saga that has ended keeps what pays': [
    `update {orders}.saga set data = json_set(data, '$.paymentMethod', 'card_ok') where subject_id = ${order}`,
  ],
  'every saga that has not ended runs a version that is known': [
    `update {orders}.saga set status = 'WAITING', definition_version = 99 where subject_id = ${order}`,
    `update {orders}.saga set status = 'WAITING', name = 'checkout-of-tomorrow' where subject_id = ${order}`,
  ],
  'a completed order is paid in full, refunded by no more, and its units are taken; a free one has no payment': [
    `update {payments}.payment set captured_minor = 0 where payment_id = ${payment}`,
    `update {payments}.payment set refunded_minor = captured_minor + 1 where payment_id = ${payment}`,
    `update {payments}.payment set currency_code = 'USD' where payment_id = ${payment}`,
    `update {orders}.orders set total_minor = 0 where order_id = ${order}`,
    `update {orders}.orders set total_minor = 0, payment_id = '' where order_id = ${order}`,
    `delete from {payments}.payment where payment_id = ${payment}`,
    `update {inventory}.reservation set state = 'EXPIRED' where order_id = ${order}`,
  ],
  'history and e-mail of a cancelled order name the amount that was really refunded': [
    `update {payments}.payment_operation set amount_minor = amount_minor - 1
     where payment_id = '${cancelled.paymentId}' and kind = 'refund'`,
    `update {payments}.payment set refunded_minor = 0 where payment_id = '${cancelled.paymentId}'`,
    `update {notifications}.delivery set data_json = json_set(data_json, '$.refundedMinor', '1')
     where order_id = '${cancelled.orderId}' and template = 'order_cancelled'`,
    `update {payments}.payment set captured_minor = captured_minor + 1, refunded_minor = refunded_minor + 1
     where payment_id = '${cancelled.paymentId}'`,
    `delete from {orders}.order_event where order_id = '${cancelled.orderId}' and sequence = ${sequence + 1n}`,
  ],
  'a rejected or cancelled order has taken neither money nor units': [
    `update {orders}.orders set state = 'CANCELLED', reason = 'A_MISTAKE' where order_id = ${order}`,
  ],
  'every payment is the one of its order, and every reservation belongs to an order': [
    `delete from {orders}.orders where order_id = ${order}`,
    `update {orders}.orders set payment_id = ${aUuid} where order_id = ${order}`,
  ],
  'nothing is compensated while an outcome is unknown': [
    `update {orders}.saga_log l join (select saga_id, min(position) as position from {orders}.saga_log
       where kind = 'compensate' group by saga_id) first on first.saga_id = l.saga_id and l.position = first.position - 1
     set l.outcome = 'unknown'`,
  ],
  'the events of an aggregate are numbered without gaps': ['delete from {orders}.outbox where sequence = 2'],
  'the history of an order is numbered without gaps': [
    `delete from {orders}.order_event where order_id = ${order} and sequence = 2`,
  ],
  'the history of every order adds up to what it shows': [
    `update {orders}.orders set reason = 'A_MISTAKE' where order_id = ${order}`,
  ],
  'no event waits to be published': ['update {orders}.outbox set pending = 1 limit 1'],
  'every published event was dealt with by each of its consumers': ['delete from {notifications}.inbox limit 1'],
  'a customer is told once of each order that was confirmed': [
    `delete from {notifications}.delivery where order_id = ${order}`,
  ],
  'a customer is told once of each order that was cancelled': [
    `delete from {notifications}.delivery where order_id = '${cancelled.orderId}' and template = 'order_cancelled'`,
    `update {notifications}.delivery set template = 'order_cancelled' where order_id = ${order}`,
  ],
  'every consumer has applied each aggregate step by step': [
    'update {notifications}.inbox_sequence set applied = applied + 1 limit 1',
    'update {notifications}.inbox_sequence set baseline = applied + 1 limit 1',
    'delete from {notifications}.inbox where sequence = 2',
  ],
  'every consumed event was published by its producer': [
    `update {orders}.outbox set message_id = ${aUuid} where type = 'armature.orders.v1.OrderConfirmed' limit 1`,
  ],
  'a mail is sent or given up within its attempts, never before its time': [
    'update {notifications}.delivery set attempts = 21 limit 1',
  ],
  'a dead letter keeps what is needed to send it again': [
    `insert into {orders}.dead_letter (id, consumer, message_id, publisher, type, routing_key, body, headers, reason,
       attempts, dead_at)
     values (${aUuid}, 'orders.made.up', 'one', 'nobody', 'none', 'none', '', '{}', '', 1, utc_timestamp(6))`,
  ],
  'every stored response names the policy that allowed it': [
    "update {orders}.idempotency set policy_version = '' limit 1",
  ],
};

t.before(async () => {
  t.equal(stateName(completed), 'COMPLETED');
  t.equal(stateName(declined), 'CANCELLED');
  t.equal(stateName(await shop.customer.orders.getOrder({ orderId: cancelled.orderId })), 'CANCELLED');
  t.strictSame(await wrongAtRest(settled), []);
  await letConstraintsGo();
});

/** Removes constraints that prevent overselling, to show that the invariants find it. */
async function letConstraintsGo(): Promise<void> {
  const [rows] = await connection.query("show session variables like 'check_constraint_checks'");
  if ((rows as unknown[]).length > 0) await connection.query('set session check_constraint_checks = 0');
  else {
    await shopData.query('alter table {inventory}.stock alter check stock_never_oversold not enforced');
    await shopData.query('alter table {payments}.payment alter check payment_captured_within_hold not enforced');
    await shopData.query('alter table {payments}.payment alter check payment_refunded_within_capture not enforced');
  }
}

for (const { id, name, find } of invariants) {
  t.test(`${id} ${name}`, async (t) => {
    const statements = breaks[name];
    if (!statements) return t.fail('add a statement that breaks this invariant to the table above');
    t.strictSame(await find(shopData), [], 'it holds');
    for (const sql of statements) {
      await connection.beginTransaction();
      try {
        const result = (await shopData.query(sql)) as unknown as { affectedRows: number };
        t.ok(result.affectedRows > 0, 'something is broken');
        t.ok((await find(shopData)).length > 0, `it is found after: ${sql}`);
      } finally {
        await connection.rollback();
      }
    }
  });
}

t.test('no service can change append-only tables', async (t) => {
  const expected = {
    orders: ['order_event', 'saga_log'],
    payments: ['ledger_entry', 'ledger_posting', 'operation_resolution'],
    inventory: ['movement'],
  };
  for (const [service, names] of Object.entries(expected)) {
    const own = await connectMysql(shop.service(service).database!.url);
    t.teardown(() => own.end());
    for (const table of names) {
      for (const sql of [`delete from ${table} limit 1`, `update ${table} set ${await aColumn(service, table)} = null`])
        await t.rejects(own.query(sql), { code: 'ER_TABLEACCESS_DENIED_ERROR' }, sql);
    }
  }
});

async function aColumn(service: string, table: string): Promise<string> {
  const [row] = await shopData.within(
    service,
    'select column_name as name from information_schema.columns where table_schema = database() and table_name = ? limit 1',
    [table],
  );
  return row.name;
}

t.test('all breaks are rolled back, and every entry in the table belongs to an invariant', async (t) => {
  t.strictSame(await wrongAtRest(settled), []);
  const names = new Set(invariants.map(({ name }) => name));
  t.strictSame(
    Object.keys(breaks).filter((name) => !names.has(name)),
    [],
  );
});
