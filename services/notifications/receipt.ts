import type { Delivery, MailData, Template } from './delivery.ts';

export interface Mail {
  subject: string;
  text: string;
  html: string;
}

const wording: Record<Template, (data: MailData) => { subject: string; lead: string; close: string }> = {
  order_confirmed: ({ orderId }) => ({
    subject: `Your order ${shortId(orderId)} is confirmed`,
    lead: 'Thank you for your order. This is your receipt.',
    close: 'We will pack it next.',
  }),
  order_cancelled: ({ orderId, reason, refundedMinor, currencyCode }) => ({
    subject: `Your order ${shortId(orderId)} was cancelled`,
    lead: reasons[reason] ?? 'Your order was cancelled.',
    close:
      refundedMinor === '0'
        ? 'Nothing was charged.'
        : `We have given ${amount(refundedMinor, currencyCode)} back to your card.`,
  }),
};

const reasons: Record<string, string> = {
  PAYMENT_DECLINED: 'Your order was cancelled because the card was declined.',
  CUSTOMER_REQUEST: 'Your order was cancelled as you asked.',
  RESERVATION_EXPIRED: 'Your order was cancelled because we could not keep for you what is in it.',
  STOCK_INSUFFICIENT: 'Your order was cancelled because something in it is sold out.',
};

/** Writes the mail of a delivery, as plain text and as HTML that works without images or scripts. */
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

/** "EUR 12.34", with as many digits as the currency has. */
export function amount(minor: string, currencyCode: string): string {
  const digits = new Intl.NumberFormat('en', { style: 'currency', currency: currencyCode }).resolvedOptions()
    .maximumFractionDigits as number;
  const padded = minor.padStart(digits + 1, '0');
  const whole = padded.slice(0, padded.length - digits);
  return `${currencyCode} ${whole}${digits > 0 ? `.${padded.slice(-digits)}` : ''}`;
}

/** The last part of an id is what a person reads out on the phone. */
const shortId = (orderId: string): string => orderId.slice(-12);

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character] ?? '');
