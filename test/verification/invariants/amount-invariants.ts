// Compares the amounts that customers read, in order history and e-mail, with the amounts that payments moved.
import { OrderEvent } from '@armature/proto/orders/v1/orders.ts';
import { derivedId } from '@armature/runtime/id';
import { stepKey } from '@armature/runtime/saga';
import { restKey } from '../../../services/orders/cancellation.ts';
import type { Invariant } from './invariant.ts';
import type { ShopData } from './shop-data.ts';

/** Orders read at a time, so that memory use does not depend on the size of the shop. */
const batch = 500;
/** A resumed step uses a new key each time. Operators resume a step at most this often. */
const roundsMax = 20;
const refundMethod = '/armature.payments.v1.PaymentService/RefundPayment';

interface CancelledOrder {
  order_id: string;
  saga_id: string | null;
  refunded_minor: string | number | null;
  data_json: string | null;
}

/** The ids of the refunds that a cancellation requested from payments, in any round. */
const refundOperations = (sagaId: string): string[] =>
  Array.from({ length: roundsMax }, (_, round) => stepKey(sagaId, 'refund-payment', 'run', round))
    .flatMap((key) => [key, restKey(key)])
    .map((key) => derivedId(`service:orders\n${refundMethod}\n${key}`));

/**
 * The amount that payments refunded because of a cancellation, and whether an operator completed one of its refunds.
 */
interface Moved {
  readonly minor: bigint;
  readonly resolved: boolean;
}

/** The amount that payments refunded because of each cancellation, by saga id. */
async function movedBy(shopData: ShopData, sagaIds: readonly string[]): Promise<Map<string, Moved>> {
  const sagaOf = new Map(sagaIds.flatMap((sagaId) => refundOperations(sagaId).map((id) => [id, sagaId] as const)));
  const moved = new Map<string, Moved>(sagaIds.map((sagaId) => [sagaId, { minor: 0n, resolved: false }]));
  if (sagaOf.size === 0) return moved;
  const rows = await shopData.query<{ operation_id: string; amount_minor: string | number; resolved: number }>(
    `select o.operation_id, o.amount_minor, exists (
       select 1 from {payments}.operation_resolution r where r.operation_id = o.operation_id) as resolved
     from {payments}.payment_operation o where o.operation_id in (?) and o.state = 'DONE'`,
    [[...sagaOf.keys()]],
  );
  for (const { operation_id, amount_minor, resolved } of rows) {
    const sagaId = sagaOf.get(operation_id)!;
    const before = moved.get(sagaId)!;
    const minor = before.minor + BigInt(amount_minor);
    moved.set(sagaId, { minor, resolved: before.resolved || Number(resolved) !== 0 });
  }
  return moved;
}

/** The refunds that a history reports: the sum of its events, the final value, and the total. */
function toldByHistory(bodies: readonly Buffer[]): { events: bigint; end: bigint; total: bigint | null } {
  let events = 0n;
  let end = 0n;
  let total: bigint | null = null;
  for (const body of bodies) {
    const { event } = OrderEvent.decode(body);
    if (event?.$case === 'paymentRefunded') events += event.value.amount?.amountMinor ?? 0n;
    if (event?.$case !== 'cancelled') continue;
    end = event.value.refunded?.amountMinor ?? 0n;
    // Histories from before the total was recorded have one refund at most.
    total = event.value.refundedTotal?.amountMinor ?? null;
  }
  return { events, end, total };
}

/** The checks that fail; empty if all hold. */
function wrongAmounts(told: ReturnType<typeof toldByHistory>, moved: Moved | null, order: CancelledOrder): string[] {
  const { events, end, total } = told;
  const refunded = BigInt(order.refunded_minor ?? 0);
  const mail = JSON.parse(order.data_json ?? '{}') as { refundedMinor?: string; refundedTotalMinor?: string };
  const rules: [string, boolean][] = [
    ['the history adds up', end === events],
    // Earlier releases reported 0 if an operator had completed the refund.
    ['the cancellation has refunded what it says', !moved || end === moved.minor || (moved.resolved && end === 0n)],
    ['no more is named than was refunded', end <= refunded],
    ['the total is what was refunded', total === null || total === refunded],
    ['the e-mail says so too', (mail.refundedMinor ?? String(end)) === String(end)],
    ['and names the total', (mail.refundedTotalMinor ?? String(total)) === String(total) || total === null],
  ];
  return rules.flatMap(([rule, holds]) => (holds ? [] : [rule]));
}

/** Cancelled orders whose history or e-mail reports another amount than was refunded. */
async function amountsNotRefunded(shopData: ShopData): Promise<unknown[]> {
  const found: unknown[] = [];
  for (let after = ''; ; ) {
    const orders = await shopData.query<CancelledOrder>(
      `select o.order_id, s.saga_id, p.refunded_minor, d.data_json from {orders}.orders o
         left join {orders}.saga s on s.name = 'cancellation' and s.subject_id = o.order_id
         left join {payments}.payment p on p.payment_id = o.payment_id
         left join {notifications}.delivery d on d.order_id = o.order_id and d.template = 'order_cancelled'
       where o.state = 'CANCELLED' and o.order_id > ? order by o.order_id limit ${batch}`,
      [after],
    );
    const last = orders.at(-1);
    if (!last) return found;
    after = last.order_id;
    const events = await shopData.query<{ order_id: string; body: Buffer }>(
      'select order_id, body from {orders}.order_event where order_id in (?) order by order_id, sequence',
      [orders.map((order) => order.order_id)],
    );
    const histories = Map.groupBy(events, (event) => event.order_id);
    const movedBySaga = await movedBy(
      shopData,
      orders.flatMap(({ saga_id }) => saga_id ?? []),
    );
    for (const order of orders) {
      const told = toldByHistory((histories.get(order.order_id) ?? []).map(({ body }) => body));
      // The saga of an order that was cancelled long ago is already deleted.
      const moved = order.saga_id ? movedBySaga.get(order.saga_id)! : null;
      const wrong = wrongAmounts(told, moved, order);
      if (wrong.length > 0)
        found.push({ order_id: order.order_id, ...told, moved: moved?.minor, refunded: order.refunded_minor, wrong });
    }
  }
}

export const amountInvariants: readonly Invariant[] = [
  {
    id: 'I14',
    name: 'history and e-mail of a cancelled order name the amount that was really refunded',
    meaning: 'a customer is told of another amount than came back',
    find: amountsNotRefunded,
  },
];
