import { setTimeout as sleep } from 'node:timers/promises';
import { DeliveryState } from '@armature/proto/notifications/v1/notifications.ts';
import type { Order } from '@armature/proto/orders/v1/orders.ts';
import { formatMoney } from '@armature/runtime/money';
import type { AcquirerLog, AcquirerOperation } from './acquirer-log.ts';
import type { CatalogueVariant } from './catalogue.ts';
import type { Expectations } from './expectations.ts';
import { findMail, type Mail } from './mailbox.ts';
import { buy, cancel, showOperations, showUnits, stateName, unitsOf } from './ordering.ts';
import type { Screen } from './screen.ts';
import type { Shop } from './shop.ts';

/** What every story is told with. */
export interface Stage {
  shop: Shop;
  screen: Screen;
  expect: Expectations;
  acquirer: AcquirerLog;
  /** The folder that mail goes to. */
  mailFolder: string;
  /** Variants with plenty of units, different ones for every story. */
  plenty: (position: number) => CatalogueVariant;
  soldOut: CatalogueVariant;
}

export interface Story {
  title: string;
  customer: string;
  tell(stage: Stage, customer: string): Promise<Order>;
}

/** The five ways that an order can go, each by a customer of its own. */
export const stories: readonly Story[] = [
  { title: 'A card that works', customer: 'ada', tell: approved },
  { title: 'A card that is declined', customer: 'grace', tell: declined },
  { title: 'Something that is sold out', customer: 'alan', tell: soldOut },
  { title: 'An acquirer that charges but does not respond', customer: 'barbara', tell: withoutResponse },
  { title: 'A change of mind about a completed order', customer: 'tony', tell: cancelled },
];

const line = ({ sku, title }: CatalogueVariant, quantity: bigint) => ({ sku, title, quantity });

async function approved({ shop, screen, expect, plenty, mailFolder }: Stage, customer: string): Promise<Order> {
  const lines = [line(plenty(0), 2n), line(plenty(1), 1n)];
  const skus = lines.map(({ sku }) => sku);
  const since = new Date();
  const before = await unitsOf(shop, skus);
  const order = await buy(shop, screen, { customer, card: 'card_ok', currency: 'EUR', lines });
  const after = await unitsOf(shop, skus);
  expect.that('the order is COMPLETED', stateName(order), 'COMPLETED');
  expect.that('3 units have left the shelf', { ...after }, { ...less(before, 3n) });
  const mail = await receiptOf(shop, mailFolder, order, since);
  screen.line(`the receipt that ${mail.to} got`);
  screen.quote(`${mail.subject}\n\n${mail.text}`);
  expect.that('the receipt names the total', mail.text.includes(formatMoney(order.total!)), true);
  return order;
}

async function declined({ shop, screen, expect, plenty, acquirer }: Stage, customer: string): Promise<Order> {
  const lines = [line(plenty(2), 4n)];
  const before = await unitsOf(shop, [lines[0]!.sku]);
  const order = await buy(shop, screen, { customer, card: 'card_declined', currency: 'USD', lines });
  const after = await unitsOf(shop, [lines[0]!.sku]);
  showUnits(screen, before, after);
  expect.that('the order is CANCELLED', stateName(order), 'CANCELLED');
  expect.that('because the payment was declined', order.reason, 'PAYMENT_DECLINED');
  expect.that('every unit is back', after, before);
  expect.that('nothing was charged', charges(await acquirer.of(order.orderId)), []);
  return order;
}

async function soldOut({ shop, screen, expect, plenty, soldOut, acquirer }: Stage, customer: string): Promise<Order> {
  const lines = [line(plenty(3), 1n), line(soldOut, 1n)];
  const before = await unitsOf(shop, [lines[0]!.sku]);
  const order = await buy(shop, screen, { customer, card: 'card_ok', currency: 'EUR', lines });
  const refused = ['REJECTED', 'CANCELLED'].includes(stateName(order));
  expect.that(`the order is ${refused ? stateName(order) : 'refused'}`, refused, true);
  expect.that('because of its stock', order.reason, 'STOCK_INSUFFICIENT');
  expect.that('and says which SKU was short', order.reasonDetail, soldOut.sku);
  expect.that('nothing of its other line is held', await unitsOf(shop, [lines[0]!.sku]), before);
  expect.that('the acquirer was never asked', await acquirer.of(order.orderId), []);
  return order;
}

async function withoutResponse({ shop, screen, expect, plenty, acquirer }: Stage, customer: string): Promise<Order> {
  const lines = [line(plenty(4), 1n)];
  const order = await buy(shop, screen, { customer, card: 'card_timeout_after_auth', currency: 'USD', lines });
  const operations = await acquirer.of(order.orderId);
  showOperations(screen, operations);
  expect.that('the order is COMPLETED', stateName(order), 'COMPLETED');
  const once = operations.filter(({ kind }) => kind === 'authorization');
  expect.that('the card was authorized exactly once', once.length, 1);
  expect.that('and charged exactly once, for the total', charges(operations), [
    { kind: 'capture', amountMinor: order.total!.amountMinor, currencyCode: 'USD' },
  ]);
  return order;
}

async function cancelled({ shop, screen, expect, plenty, acquirer }: Stage, customer: string): Promise<Order> {
  const lines = [line(plenty(5), 2n)];
  const before = await unitsOf(shop, [lines[0]!.sku]);
  const completed = await buy(shop, screen, { customer, card: 'card_ok', currency: 'EUR', lines });
  expect.that('the order is COMPLETED', stateName(completed), 'COMPLETED');
  const order = await cancel(shop, screen, customer, completed);
  const payment = await shop.payments.getPayment({ paymentId: order.paymentId }, await shop.as(customer));
  screen.line(`charged ${formatMoney(payment.captured!)}, refunded ${formatMoney(payment.refunded!)}`);
  expect.that('the order is CANCELLED', stateName(order), 'CANCELLED');
  expect.that('all of the charge is given back', payment.refunded, order.total);
  const { currencyCode, amountMinor } = order.total!;
  expect.that('the acquirer has one charge and one refund', charges(await acquirer.of(order.orderId)), [
    { kind: 'capture', amountMinor, currencyCode },
    { kind: 'refund', amountMinor, currencyCode },
  ]);
  expect.that('every unit is back', await unitsOf(shop, [lines[0]!.sku]), before);
  return order;
}

const less = ({ onHand, reserved, available }: Awaited<ReturnType<typeof unitsOf>>, units: bigint) => ({
  onHand: onHand - units,
  reserved,
  available: available - units,
});

/** The operations that moved money for good. */
function charges(operations: readonly AcquirerOperation[]) {
  return operations
    .filter(({ kind, status }) => status !== 'refused' && (kind === 'capture' || kind === 'refund'))
    .map(({ kind, amount_minor, currency_code }) => ({
      kind,
      amountMinor: BigInt(amount_minor ?? 0),
      currencyCode: currency_code ?? '',
    }));
}

const mailTimeoutMs = 15_000;

/** Waits for the mail to be sent, then reads it where it was delivered to. */
async function receiptOf(shop: Shop, folder: string, { orderId }: Order, since: Date): Promise<Mail> {
  const signal = AbortSignal.any([shop.signal, AbortSignal.timeout(mailTimeoutMs)]);
  const staff = { ...(await shop.as('bo')), signal };
  for (;;) {
    if (signal.aborted) throw new Error(`no receipt was sent within ${mailTimeoutMs / 1000} s`);
    const { deliveries } = await shop.notifications.listDeliveries({ orderId }, staff);
    const sent = deliveries.find(
      ({ template, state }) => template === 'order_confirmed' && state === DeliveryState.DELIVERY_STATE_SENT,
    );
    const mail = sent && (await findMail(folder, sent.mailMessageId, since));
    if (mail) return mail;
    if (sent) throw new Error(`${sent.mailMessageId} was sent but is not in ${folder}`);
    await sleep(50, undefined, { signal });
  }
}
