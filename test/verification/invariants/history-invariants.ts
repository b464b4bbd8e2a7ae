// Invariants that need more than a query: replay of histories, decoding of stored responses, hash chains.
import { OrderEvent, Order as OrderMessage } from '@armature/proto/orders/v1/orders.ts';
import { apply, type Fact, type Order } from '../../../services/orders/order.ts';
import type { Invariant } from './invariant.ts';
import { acquirerDifferences, brokenChains } from './ledger-checks.ts';
import { ledgerInvariants } from './ledger-invariants.ts';
import type { ShopData } from './shop-data.ts';

const inPayments = (shopData: ShopData) => (sql: string, params?: readonly unknown[]) =>
  shopData.within('payments', sql, params);

/** Rows read at a time, so that memory use does not depend on the size of the shop. */
const batch = 1_000;

interface OrderRow {
  order_id: string;
  state: Order['state'];
  reason: string;
  cancel_requested: number;
  sequence: string | number;
}

/** Orders whose replayed history differs from their row. */
async function unlikeTheirHistory(shopData: ShopData): Promise<unknown[]> {
  const found: unknown[] = [];
  for (let after = ''; ; ) {
    const orders = await shopData.query<OrderRow>(
      `select order_id, state, reason, cancel_requested, sequence from {orders}.orders
       where order_id > ? order by order_id limit ${batch}`,
      [after],
    );
    if (orders.length === 0) return found;
    const events = await shopData.query<{ order_id: string; body: Buffer }>(
      'select order_id, body from {orders}.order_event where order_id in (?) order by order_id, sequence',
      [orders.map((order) => order.order_id)],
    );
    const histories = Map.groupBy(events, (event) => event.order_id);
    for (const row of orders) {
      const told = fold(histories.get(row.order_id) ?? []);
      const kept = [row.state, row.reason, row.cancel_requested === 1, String(row.sequence)].join(' ');
      if (told !== kept) found.push({ order_id: row.order_id, history: told, row: kept });
    }
    after = orders.at(-1)?.order_id ?? '';
  }
}

/** Replays a history. Returns state, reason, cancellation request and sequence as text. */
function fold(history: readonly { body: Buffer }[]): string {
  let order: Pick<Order, 'state' | 'reason' | 'cancelRequested' | 'sequence'> = {
    state: 'PENDING',
    reason: '',
    cancelRequested: false,
    sequence: 0n,
  };
  for (const { body } of history) {
    const { event, occurTime, sequence } = OrderEvent.decode(body);
    if (!event || sequence !== order.sequence + 1n) return `breaks at ${sequence}`;
    order = apply(order as Order, event as Fact, occurTime ?? new Date(0));
  }
  return [order.state, order.reason, order.cancelRequested, String(order.sequence)].join(' ');
}

/** Stored responses to PlaceOrder whose order does not exist, or belongs to another response too. */
async function responsesWithoutAnOrder(shopData: ShopData): Promise<unknown[]> {
  const found: unknown[] = [];
  const requestOf = new Map<string, string>();
  let after: readonly [string, string] = ['', ''];
  for (;;) {
    const rows = await shopData.query<{ principal: string; request_key: string; body: Buffer }>(
      `select principal, request_key, body from {orders}.idempotency
       where method = '/armature.orders.v1.OrderService/PlaceOrder' and code = 0 and (principal, request_key) > (?, ?)
       order by principal, request_key limit ${batch}`,
      after,
    );
    const last = rows.at(-1);
    if (!last) return found;
    const ids = rows.map(({ body }) => OrderMessage.decode(body).orderId);
    const there = await shopData.query<{ order_id: string }>(
      'select order_id from {orders}.orders where order_id in (?)',
      [ids],
    );
    const known = new Set(there.map((row) => row.order_id));
    for (const [index, order_id] of ids.entries()) {
      const { principal, request_key } = rows[index]!;
      const key = `${principal} ${request_key}`;
      if (!known.has(order_id)) found.push({ key, order_id, problem: 'there is no such order' });
      if (requestOf.has(order_id))
        found.push({ key, order_id, problem: `is the response to ${requestOf.get(order_id)} too` });
      requestOf.set(order_id, key);
    }
    after = [last.principal, last.request_key];
  }
}

export const historyInvariants: readonly Invariant[] = [
  ...Object.entries(ledgerInvariants).map(
    ([title, sql]): Invariant => ({
      id: /^I\d+/.exec(title)?.[0] ?? 'I7',
      name: title.replace(/^I\d+ /, ''),
      meaning: 'the books are wrong',
      find: (shopData) => shopData.within('payments', sql),
    }),
  ),
  {
    id: 'I5',
    name: 'the chain of every payment is whole',
    meaning: 'the ledger was changed after the fact',
    find: (shopData) => brokenChains(inPayments(shopData)),
  },
  {
    id: 'I8',
    name: 'every order of a response exists, and belongs to one request only',
    meaning: 'an order was lost or placed twice',
    find: responsesWithoutAnOrder,
  },
  {
    id: 'I9',
    name: 'the ledger equals the log of the acquirer, both ways',
    meaning: 'a card was charged that we know nothing of, or the other way round',
    find: (shopData) => acquirerDifferences(inPayments(shopData), shopData.acquirerUrl),
  },
  {
    id: 'I18',
    name: 'the history of every order adds up to what it shows',
    meaning: 'an order shows what never happened',
    find: unlikeTheirHistory,
  },
];
