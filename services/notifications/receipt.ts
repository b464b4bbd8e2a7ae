import type { OrderReason } from '@armature/proto/orders/v1/orders.ts';
import { formatMoney } from '@armature/runtime/money';
import type { Delivery, MailData, Template } from './delivery.ts';

export interface Mail {
  subject: string;
  text: string;
  html: string;
}

const wording: Record<Template, (data: MailData) => { subject: string; lead: string; close: string }> = {
  order_confirmed: ({ orderId, totalMinor, currencyCode }) => ({
    subject: `Your order ${shortId(orderId)} is confirmed`,
    lead: 'Thank you for your order. This is your receipt.',
    close:
      totalMinor === '0' ? 'There is nothing to pay.' : `We charge ${amount(totalMinor, currencyCode)} to your card.`,
  }),
  order_cancelled: (data) => ({
    subject: `Your order ${shortId(data.orderId)} was cancelled`,
    lead: isReason(data.reason) ? reasonText[data.reason] : 'Your order was cancelled.',
    close: refundText(data),
  }),
};

type NameOf<Key> = Key extends `ORDER_REASON_${infer Name}` ? Exclude<Name, 'UNSPECIFIED'> : never;
type Reason = NameOf<keyof typeof OrderReason>;

/** A sentence for every reason that the contract of orders names. */
const reasonText: Record<Reason, string> = {
  STOCK_INSUFFICIENT: 'Your order was cancelled because something in it is sold out.',
  SKU_UNKNOWN: 'Your order was cancelled because something in it is not kept in stock.',
  PAYMENT_DECLINED: 'Your order was cancelled because the card was declined.',
  CUSTOMER_REQUEST: 'Your order was cancelled as you asked.',
  RESERVATION_EXPIRED: 'Your order was cancelled because we could not keep for you what is in it.',
  RESERVATION_RELEASED: 'Your order was cancelled because we could not keep for you what is in it.',
  TIME_LIMIT: 'Your order was cancelled because we could not confirm it in time.',
  OPERATOR: 'Your order was cancelled by our staff.',
  PAYMENT_HOLD_EXPIRED: 'Your order was cancelled because the authorization of your card expired.',
  PAYMENT_VOIDED: 'Your order was cancelled because the authorization of your card was withdrawn.',
  CHECKOUT_FAILED: 'Your order was cancelled because we could not complete it.',
};

const isReason = (reason: string): reason is Reason => Object.hasOwn(reasonText, reason);

/** The refund of this cancellation, and the sum with earlier refunds. */
function refundText({ refundedMinor, refundedTotalMinor = refundedMinor, currencyCode }: MailData): string {
  const [refunded, total] = [refundedMinor, refundedTotalMinor].map((minor) => amount(minor, currencyCode));
  if (refundedTotalMinor === '0') return 'Nothing was charged.';
  if (refundedMinor === refundedTotalMinor) return `We have refunded ${total}.`;
  if (refundedMinor === '0') return `${total} of this order has been refunded in total.`;
  return `We have refunded ${refunded}. With earlier refunds that makes ${total}.`;
}

/** Writes the e-mail of a delivery, as plain text and as HTML without images or scripts. */
export function render({ template, data }: Pick<Delivery, 'template' | 'data'>): Mail {
  const { subject, lead, close } = wording[template](data);
  const rows = data.lines.map((line) => ({
    title: line.title,
    sku: line.sku,
    quantity: line.quantity,
    total: amount(String(BigInt(line.unitPriceMinor) * BigInt(line.quantity)), data.currencyCode),
  }));
  const total = amount(data.totalMinor, data.currencyCode);
  const text = [
    lead,
    '',
    `Order ${data.orderId}`,
    ...rows.map((row) => `  ${row.quantity} x ${row.title} (${row.sku})  ${row.total}`),
    ...(rows.length > 0 ? [`  Total ${total}`] : []),
    '',
    close,
    '',
  ].join('\n');
  const cells = rows
    .map(
      (row) =>
        `<tr><td>${escapeHtml(row.quantity)} &times;</td><td>${escapeHtml(row.title)} <small>${escapeHtml(row.sku)}</small></td><td align="right">${escapeHtml(row.total)}</td></tr>`,
    )
    .join('');
  const table = rows.length
    ? `<table cellpadding="4">${cells}<tr><th colspan="2" align="left">Total</th><th align="right">${escapeHtml(total)}</th></tr></table>`
    : '';
  const html = `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escapeHtml(subject)}</title><body><p>${escapeHtml(lead)}</p><p>Order ${escapeHtml(data.orderId)}</p>${table}<p>${escapeHtml(close)}</p></body></html>`;
  return { subject, text, html };
}

const amount = (minor: string, currencyCode: string): string =>
  formatMoney({ currencyCode, amountMinor: BigInt(minor) });

/** The last part of an id is what a person reads out on the phone. */
const shortId = (orderId: string): string => orderId.slice(-12);

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character] ?? '');
