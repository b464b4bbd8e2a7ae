// Log of the responses that customers received. The log is outside every process that the run kills. After the run, the
// state of the shop is compared with it.
import { type Order, OrderEvent } from '@armature/proto/orders/v1/orders.ts';
import { acquirerLog } from '../invariants/ledger-checks.ts';
import type { ShopData } from '../invariants/shop-data.ts';

export type Story =
  | 'approved'
  | 'two lines'
  | 'hot item'
  | 'declined'
  | 'slow'
  | 'timed out after authorizing'
  | 'timed out before authorizing'
  | 'timed out after capturing'
  | 'failed once'
  | 'capture refused'
  | 'pending until later'
  | 'webhook late'
  | 'webhook twice'
  | 'webhook before the response'
  | 'cancelled while running'
  | 'refunded'
  | 'partly refunded'
  | 'refund against cancellation'
  | 'cancelled late'
  | 'cancelled twice'
  | 'free'
  | 'hold voided outside'
  | 'hold expired'
  | 'merged lines'
  | 'price moved'
  | 'price expected'
  | 'abandoned';

/** An order whose PlaceOrder returned OK, and what its customer knows about it. */
export interface OrderNote {
  readonly requestId: string;
  readonly orderId: string;
  readonly story: Story;
  readonly lines: readonly { sku: string; quantity: bigint }[];
  readonly totalMinor: bigint;
  /** The first response, as text. Later responses must be equal to it. */
  readonly response: string;
  cancel: 'not asked' | 'accepted' | 'refused';
  /** Sum of the administrator's refunds, without the refund of a cancellation. */
  refundedMinor: bigint;
  /** Whether the acquirer voided the hold because a party other than payments requested it. */
  voidedOutside: boolean;
  /** The last final state that was shown to the customer. */
  end: string;
}

export interface Accepted {
  requestId: string;
  story: Story;
  lines: OrderNote['lines'];
  placed: Order;
}

export interface ResponseLog {
  readonly notes: readonly OrderNote[];
  /** Calls by method and code, as 'PlaceOrder OK'. */
  readonly byCode: ReadonlyMap<string, number>;
  abandoned: number;
  asked(requestId: string): void;
  /** Records that the request was refused: no order may exist for it. */
  refused(requestId: string): void;
  accepted(order: Accepted): OrderNote;
  repeated(note: OrderNote, order: Order): void;
  saw(note: OrderNote, state: string): void;
  noteResponse(what: string, code: string): void;
  problem(what: string): void;
  /** Returns how the present state contradicts the responses that customers received; empty if it does not. */
  contradictions(shopData: ShopData): Promise<string[]>;
  /** Orders by story and end, as 'refunded CANCELLED CUSTOMER_REQUEST'. */
  outcomes(shopData: ShopData): Promise<Record<string, number>>;
}

const asText = (value: unknown) => JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? String(one) : one));

const paid = ['COMPLETED '];
/** Allowed for every story: a time limit may have passed before the order reached its other end. */
const late = ['REJECTED TIME_LIMIT', 'CANCELLED TIME_LIMIT', 'CANCELLED RESERVATION_EXPIRED'];

function endsOf({ story, cancel, voidedOutside }: OrderNote): string[] {
  if (cancel === 'accepted') return ['CANCELLED CUSTOMER_REQUEST'];
  if (voidedOutside) return ['CANCELLED PAYMENT_VOIDED', ...late];
  if (story === 'declined') return ['REJECTED PAYMENT_DECLINED', 'CANCELLED PAYMENT_DECLINED', ...late];
  if (story === 'hold expired') return [...paid, 'CANCELLED PAYMENT_HOLD_EXPIRED', ...late];
  if (story === 'capture refused') return ['CANCELLED PAYMENT_DECLINED', ...late];
  if (story === 'hot item') return [...paid, 'REJECTED STOCK_INSUFFICIENT', ...late];
  return [...paid, ...late];
}

interface OrderRow {
  order_id: string;
  state: string;
  reason: string;
}

export function openResponseLog(stocked: readonly { sku: string; units: bigint }[]): ResponseLog {
  const asked = new Set<string>();
  const notes: OrderNote[] = [];
  const byCode = new Map<string, number>();
  const problems: string[] = [];
  const rows = (shopData: ShopData) => shopData.query<OrderRow>('select order_id, state, reason from {orders}.orders');
  return {
    notes,
    byCode,
    abandoned: 0,
    asked: (requestId) => void asked.add(requestId),
    refused: (requestId) => void asked.delete(requestId),
    accepted({ requestId, story, lines, placed }) {
      const { orderId, total } = placed;
      const note: OrderNote = {
        requestId,
        orderId,
        story,
        lines,
        totalMinor: total?.amountMinor ?? 0n,
        response: asText(placed),
        cancel: 'not asked',
        refundedMinor: 0n,
        voidedOutside: false,
        end: '',
      };
      notes.push(note);
      return note;
    },
    repeated(note, order) {
      if (asText(order) !== note.response) {
        problems.push(`request ${note.requestId} returned ${note.response}, then ${asText(order)}`);
      }
    },
    saw(note, state) {
      const ended = note.end && !(note.end === 'COMPLETED' && note.cancel === 'accepted' && state === 'CANCELLED');
      if (ended && state !== note.end) problems.push(`order ${note.orderId} was ${note.end}, then ${state}`);
      if (['COMPLETED', 'REJECTED', 'CANCELLED'].includes(state)) note.end = state;
    },
    noteResponse(what, code) {
      const key = `${what} ${code}`;
      byCode.set(key, (byCode.get(key) ?? 0) + 1);
    },
    problem: (what) => void problems.push(what),
    async contradictions(shopData) {
      const shown = new Map((await rows(shopData)).map((row) => [row.order_id, row]));
      const acquirer = await acquirerLog(shopData.acquirerUrl);
      const levels = await shopData.query<{ sku: string; on_hand: string | number }>(
        'select sku, on_hand from {inventory}.stock',
      );
      return [
        ...problems,
        ...ordersContradicting(notes, shown),
        ...ordersWithoutRequest(asked, notes, shown),
        ...shelvesContradicting(stocked, notes, shown, new Map(levels.map((row) => [row.sku, BigInt(row.on_hand)]))),
        ...chargesContradicting(notes, shown, acquirer),
        ...(await refundsContradicting(shopData, notes, shown)),
      ];
    },
    async outcomes(shopData) {
      const shown = new Map((await rows(shopData)).map((row) => [row.order_id, row]));
      const counts: Record<string, number> = {};
      for (const { story, orderId } of notes) {
        const { state = 'LOST', reason = '' } = shown.get(orderId) ?? {};
        const end = `${story}: ${state} ${reason}`.trim();
        counts[end] = (counts[end] ?? 0) + 1;
      }
      return Object.fromEntries(Object.entries(counts).sort());
    },
  };
}

type Shown = ReadonlyMap<string, OrderRow>;

function ordersContradicting(notes: readonly OrderNote[], shown: Shown): string[] {
  return notes.flatMap((note) => {
    const row = shown.get(note.orderId);
    if (!row) return [`order ${note.orderId} was accepted and does not exist`];
    const end = `${row.state} ${row.reason}`;
    if (!endsOf(note).includes(end)) {
      return [`order ${note.orderId} (${note.story}, cancellation ${note.cancel}) ended ${end}`];
    }
    const undone = note.end === 'COMPLETED' && note.cancel === 'accepted' && row.state === 'CANCELLED';
    if (note.end && note.end !== row.state && !undone) {
      return [`order ${note.orderId} was shown as ${note.end} and is ${row.state}`];
    }
    return [];
  });
}

/** There may be an order for each request that returned OK, and one for each request whose outcome is unknown. */
function ordersWithoutRequest(asked: ReadonlySet<string>, notes: readonly OrderNote[], shown: Shown): string[] {
  const withoutResponse = asked.size - notes.length;
  const more = shown.size - new Set(notes.map((note) => note.orderId)).size;
  return more > withoutResponse
    ? [`${more} orders more than responses, with ${withoutResponse} requests without a response`]
    : [];
}

const completed = (notes: readonly OrderNote[], shown: Shown) =>
  notes.filter((note) => shown.get(note.orderId)?.state === 'COMPLETED');

/** Compares the units in stock with the units received less those of completed orders. */
function shelvesContradicting(
  stocked: readonly { sku: string; units: bigint }[],
  notes: readonly OrderNote[],
  shown: Shown,
  onHand: ReadonlyMap<string, bigint>,
): string[] {
  const sold = new Map<string, bigint>();
  for (const { sku, quantity } of completed(notes, shown).flatMap((note) => note.lines)) {
    sold.set(sku, (sold.get(sku) ?? 0n) + quantity);
  }
  return stocked.flatMap(({ sku, units }) => {
    const expected = units - (sold.get(sku) ?? 0n);
    const there = onHand.get(sku);
    return there === expected ? [] : [`${sku}: ${expected} units expected in stock, found ${there}`];
  });
}

/** Compares the charge of each order: the total of a completed order less its refunds, otherwise nothing. */
function chargesContradicting(
  notes: readonly OrderNote[],
  shown: Shown,
  log: Awaited<ReturnType<typeof acquirerLog>>,
): string[] {
  const charged = new Map<string, bigint>();
  for (const { order_reference, status, amount_minor } of log) {
    const sign = status === 'captured' ? 1n : status === 'refunded' ? -1n : 0n;
    if (!order_reference || sign === 0n) continue;
    charged.set(order_reference, (charged.get(order_reference) ?? 0n) + sign * BigInt(amount_minor ?? 0));
  }
  const owed = new Map(completed(notes, shown).map((note) => [note.orderId, note.totalMinor - note.refundedMinor]));
  return [...new Set([...charged.keys(), ...owed.keys()])].flatMap((orderId) => {
    const [is, should] = [charged.get(orderId) ?? 0n, owed.get(orderId) ?? 0n];
    return is === should ? [] : [`order ${orderId}: the card was charged ${is}, expected ${should}`];
  });
}

/** Cancelled orders whose history names a refund other than what was left after the administrator's refunds. */
async function refundsContradicting(shopData: ShopData, notes: readonly OrderNote[], shown: Shown): Promise<string[]> {
  const refunded = notes.filter((note) => note.refundedMinor > 0n && shown.get(note.orderId)?.state === 'CANCELLED');
  if (refunded.length === 0) return [];
  const rows = await shopData.query<{ order_id: string; body: Buffer }>(
    'select order_id, body from {orders}.order_event where order_id in (?) order by order_id, sequence',
    [refunded.map(({ orderId }) => orderId)],
  );
  const named = new Map<string, bigint>();
  for (const { order_id, body } of rows) {
    const { event } = OrderEvent.decode(body);
    if (event?.$case === 'cancelled') named.set(order_id, event.value.refunded?.amountMinor ?? 0n);
  }
  return refunded.flatMap(({ orderId, totalMinor, refundedMinor }) => {
    const [is, should] = [named.get(orderId), totalMinor - refundedMinor];
    return is === should ? [] : [`order ${orderId}: its history names a refund of ${is}, expected ${should}`];
  });
}
