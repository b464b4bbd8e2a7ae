import type { EventContract } from '@armature/proto/contract.ts';
import {
  OrderCancelledEvent,
  OrderCancelRequestedEvent,
  OrderCompletedEvent,
  OrderConfirmedEvent,
  OrderPaymentAuthorizedEvent,
  OrderPaymentCapturedEvent,
  OrderPaymentRefundedEvent,
  OrderPaymentVoidedEvent,
  OrderPlacedEvent,
  OrderRejectedEvent,
  OrderStockCommittedEvent,
  OrderStockReleasedEvent,
  OrderStockReservedEvent,
} from '@armature/proto/orders/v1/contract.ts';
import { OrderEvent } from '@armature/proto/orders/v1/orders.ts';
import { emit, type Page, type SqlReader, type Tx, tableBaselines, utcDate, watchers } from '@armature/runtime';
import { orderNotFound } from './errors.ts';
import { type Address, apply, type Fact, type Order, type OrderLine, type State } from './order.ts';
import { recentOrders } from './recent-orders.ts';

/** How often a watcher polls for events that another instance recorded. */
const watchPollMs = 500;

const eventOf: Record<Fact['$case'], EventContract> = {
  placed: OrderPlacedEvent,
  stockReserved: OrderStockReservedEvent,
  paymentAuthorized: OrderPaymentAuthorizedEvent,
  confirmed: OrderConfirmedEvent,
  stockCommitted: OrderStockCommittedEvent,
  paymentCaptured: OrderPaymentCapturedEvent,
  completed: OrderCompletedEvent,
  rejected: OrderRejectedEvent,
  cancelRequested: OrderCancelRequestedEvent,
  paymentVoided: OrderPaymentVoidedEvent,
  stockReleased: OrderStockReleasedEvent,
  paymentRefunded: OrderPaymentRefundedEvent,
  cancelled: OrderCancelledEvent,
};

export type OrderStore = ReturnType<typeof orderStore>;

/** The last sequence of each order, for consumers that have missed events. */
export const baselineSources = [
  tableBaselines({ aggregate: 'order', table: 'orders', id: 'order_id', sequence: 'sequence' }),
];

export function orderStore() {
  const watching = watchers(watchPollMs);
  const recent = recentOrders();

  /**
   * Appends the facts and notifies watchers. Null, and nothing is written, where `order` is not the current version.
   */
  const write = async (tx: Tx, order: Order, facts: readonly Fact[]): Promise<Order | null> => {
    const next = await writeFacts(tx, order, facts);
    if (!next) return null;
    recent.remember(tx, next);
    watching.wakeAfter(tx, [order.orderId]);
    return next;
  };

  /** Appends facts to an order that was read under its row lock, or to a new one. Returns the order after them. */
  const append = async (tx: Tx, order: Order, facts: readonly Fact[]): Promise<Order> => {
    const next = await write(tx, order, facts);
    if (!next) throw new Error(`order ${order.orderId} was changed without its row lock`);
    return next;
  };

  return {
    append,
    find: findOrder,
    list: listOrders,
    events: listEvents,

    /** Appends the facts that `factsOf` derives from the current order, under its row lock. */
    async change(tx: Tx, orderId: string, factsOf: (order: Order) => readonly Fact[]): Promise<Order> {
      const expected = recent.expected(tx, orderId);
      const next = expected ? await write(tx, expected, factsOf(expected)) : null;
      if (next) return next;
      const order = await findOrder(tx, orderId, 'for update');
      return append(tx, order, factsOf(order));
    },

    /** Yields at once, then whenever the order may have changed. */
    changes: (orderId: string, signal: AbortSignal) => watching.changes([orderId], signal),
  };
}

async function findOrder(sql: SqlReader, orderId: string, lock: '' | 'for update' = ''): Promise<Order> {
  const rows = await sql.query<OrderRow>(`select * from orders where order_id = ? ${lock}`, [orderId]);
  if (!rows[0]) throw orderNotFound(orderId);
  return toOrder(rows[0]);
}

/**
 * Newest first, because ids are ordered by time. Returns one row more than the page size where there is a next page.
 */
async function listOrders(
  sql: SqlReader,
  filter: { customerId: string; state: State | null },
  page: Page<[string]>,
): Promise<Order[]> {
  const conditions = ['order_id < ?'];
  const params: (string | number)[] = [page.after?.[0] ?? 'g'];
  if (filter.customerId) {
    conditions.push('customer_id = ?');
    params.push(filter.customerId);
  }
  if (filter.state) {
    conditions.push('state = ?');
    params.push(filter.state);
  }
  const rows = await sql.query<OrderRow>(
    `select * from orders where ${conditions.join(' and ')} order by order_id desc limit ?`,
    [...params, page.size + 1],
  );
  return rows.map(toOrder);
}

async function listEvents(
  sql: SqlReader,
  orderId: string,
  afterSequence: bigint,
  limit: number,
): Promise<OrderEvent[]> {
  const rows = await sql.query<{ body: Buffer }>(
    'select body from order_event where order_id = ? and sequence > ? order by sequence limit ?',
    [orderId, afterSequence, limit],
  );
  return rows.map((row) => OrderEvent.decode(row.body));
}

/**
 * Writes facts to the history and the outbox, and the order after them to the read model. Null, and nothing is written,
 * where `order` is not the current version.
 */
async function writeFacts(tx: Tx, order: Order, facts: readonly Fact[]): Promise<Order | null> {
  let next = order;
  const rows: [string, bigint, Buffer][] = [];
  const at = new Date();
  for (const fact of facts) {
    next = apply(next, fact, at);
    const event = { orderId: order.orderId, sequence: next.sequence, occurTime: at, event: fact };
    rows.push([order.orderId, next.sequence, Buffer.from(OrderEvent.encode(event).finish())]);
  }
  const written = order.sequence === 0n ? insert(tx, next) : update(tx, order.sequence, next);
  if (!(await written)) return null;
  await tx.execute(
    `insert into order_event (order_id, sequence, body) values ${rows.map(() => '(?, ?, ?)').join(', ')}`,
    rows.flat(),
  );
  for (const [index, fact] of facts.entries()) {
    emit(tx, eventOf[fact.$case], fact.value, order.sequence + BigInt(index + 1));
  }
  return next;
}

interface OrderRow {
  order_id: string;
  customer_id: string;
  state: State;
  lines_json: string;
  currency_code: string;
  total_minor: string | number;
  contact_email: string;
  address_json: string;
  reason: string;
  reason_detail: string;
  cancel_requested: number;
  reservation_id: string;
  payment_id: string;
  sequence: string | number;
  created_at: string;
  updated_at: string;
  erased_at: string | null;
}

function toOrder(row: OrderRow): Order {
  const lines = JSON.parse(row.lines_json) as {
    sku: string;
    title: string;
    quantity: string;
    unitPriceMinor: string;
  }[];
  return {
    orderId: row.order_id,
    customerId: row.customer_id,
    state: row.state,
    lines: lines.map((line) => ({
      ...line,
      quantity: BigInt(line.quantity),
      unitPriceMinor: BigInt(line.unitPriceMinor),
    })),
    currencyCode: row.currency_code,
    totalMinor: BigInt(row.total_minor),
    contactEmail: row.contact_email,
    shippingAddress: row.address_json === '' ? null : (JSON.parse(row.address_json) as Address),
    reason: row.reason,
    reasonDetail: row.reason_detail,
    cancelRequested: row.cancel_requested === 1,
    reservationId: row.reservation_id,
    paymentId: row.payment_id,
    sequence: BigInt(row.sequence),
    createdAt: utcDate(row.created_at),
    updatedAt: utcDate(row.updated_at),
    ...(row.erased_at === null ? {} : { erasedAt: utcDate(row.erased_at) }),
  };
}

/** BigInts are not JSON; as text they keep every digit. */
const linesJson = (lines: readonly OrderLine[]): string =>
  JSON.stringify(lines, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));

async function insert(tx: Tx, order: Order): Promise<true> {
  await tx.execute(
    `insert into orders (order_id, customer_id, state, lines_json, currency_code, total_minor, contact_email,
       address_json, reservation_id, payment_id, sequence, created_at, updated_at)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    [
      order.orderId,
      order.customerId,
      order.state,
      linesJson(order.lines),
      order.currencyCode,
      order.totalMinor,
      order.contactEmail,
      JSON.stringify(order.shippingAddress),
      order.reservationId,
      order.paymentId,
      order.sequence,
      order.createdAt,
      order.updatedAt,
    ],
  );
  return true;
}

/** False, and nothing is changed, where the stored sequence is not the expected one. */
async function update(tx: Tx, expected: bigint, order: Order): Promise<boolean> {
  const { affectedRows } = await tx.execute(
    `update orders set state = ?, reason = ?, reason_detail = ?, cancel_requested = ?, sequence = ?, updated_at = ?
     where order_id = ? and sequence = ?`,
    [
      order.state,
      order.reason,
      order.reasonDetail.slice(0, 500),
      order.cancelRequested ? 1 : 0,
      order.sequence,
      order.updatedAt,
      order.orderId,
      expected,
    ],
  );
  return affectedRows === 1;
}
