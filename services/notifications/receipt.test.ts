import { OrderReason } from '@armature/proto/orders/v1/orders.ts';
import { retryAfterMs } from '@armature/runtime/jobs';
import t from 'tap';
import { config } from './config.ts';
import type { MailData } from './delivery.ts';
import { deliveryQueue } from './delivery-queue.ts';
import { render } from './receipt.ts';

const data: MailData = {
  orderId: '01900000-0000-7000-8000-000000000abc',
  currencyCode: 'EUR',
  totalMinor: '2550',
  lines: [{ sku: 'A-1', title: 'Tea & <b>Cake</b>', quantity: '3', unitPriceMinor: '850' }],
  reason: '',
  refundedMinor: '0',
};

t.test('a receipt shows amounts with the digits of their currency', async (t) => {
  for (const [totalMinor, currencyCode, shown] of [
    ['1299000', 'HUF', 'HUF 12,990.00'],
    ['15000000', 'IDR', 'IDR 150,000.00'],
    ['4500000', 'COP', 'COP 45,000.00'],
    ['25000', 'IQD', 'IQD 25.000'],
    ['500', 'JPY', 'JPY 500'],
    ['1234', 'KWD', 'KWD 1.234'],
    ['1234', 'EUR', 'EUR 12.34'],
  ] as const) {
    const lines = [{ sku: 'A-1', title: 'Tea', quantity: '1', unitPriceMinor: totalMinor }];
    const mail = render({ template: 'order_confirmed', data: { ...data, currencyCode, totalMinor, lines } });
    for (const text of [mail.text, mail.html]) {
      t.equal(text.split(shown).length - 1, 3, `${shown}: in its line, as the total and as the charge`);
    }
    const cancelled = { ...data, lines: [], currencyCode, refundedMinor: totalMinor };
    t.match(render({ template: 'order_cancelled', data: cancelled }).text, `refunded ${shown}`);
  }
});

t.test('a receipt of a free order says that there is nothing to pay', async (t) => {
  const lines = [{ sku: 'A-1', title: 'Leaflet', quantity: '1', unitPriceMinor: '0' }];
  const { text } = render({ template: 'order_confirmed', data: { ...data, totalMinor: '0', lines } });
  t.match(text, /Total EUR 0\.00[\s\S]*nothing to pay/);
});

t.test('no mail promises what the shop does not do', async (t) => {
  for (const template of ['order_confirmed', 'order_cancelled'] as const) {
    const { subject, text, html } = render({ template, data });
    t.notMatch(subject + text + html, /\b(ship|pack|deliver|sent? (it|them) (to|out))/i);
  }
});

t.test('a receipt says what was bought, in text and in HTML that cannot be broken into', async (t) => {
  const { subject, text, html } = render({ template: 'order_confirmed', data });
  t.match(subject, '000000000abc');
  t.match(text, '3 x Tea & <b>Cake</b> (A-1)  EUR 25.50');
  t.match(text, 'Total EUR 25.50');
  t.match(html, 'Tea &amp; &lt;b&gt;Cake&lt;/b&gt;');
  t.notMatch(html, '<b>Cake');
});

t.test('a cancellation says why, and what was really refunded', async (t) => {
  for (const { name, more, says } of [
    { name: 'all of the charge', more: { refundedMinor: '15490' }, says: 'We have refunded EUR 154.90.' },
    {
      name: 'what earlier refunds had left',
      more: { refundedMinor: '14990', refundedTotalMinor: '15490' },
      says: 'We have refunded EUR 149.90. With earlier refunds that makes EUR 154.90.',
    },
    {
      name: 'nothing more, since all of it was refunded before',
      more: { refundedMinor: '0', refundedTotalMinor: '15490' },
      says: 'EUR 154.90 of this order has been refunded in total.',
    },
    { name: 'nothing', more: { refundedMinor: '0', refundedTotalMinor: '0' }, says: 'Nothing was charged.' },
  ]) {
    const cancelled = { ...data, lines: [], reason: 'CUSTOMER_REQUEST', ...more };
    const { text } = render({ template: 'order_cancelled', data: cancelled });
    t.match(text, 'as you asked', name);
    t.match(text, says, name);
  }
});

t.test('every reason that the contract names has its own words', async (t) => {
  const names = Object.keys(OrderReason).flatMap((key) => /^ORDER_REASON_(?!UNSPECIFIED)(.*)$/.exec(key)?.[1] ?? []);
  t.ok(names.length > 10);
  for (const reason of names) {
    const { text } = render({ template: 'order_cancelled', data: { ...data, lines: [], reason } });
    t.notMatch(text, 'Your order was cancelled.\n', reason);
  }
  t.match(
    render({ template: 'order_cancelled', data: { ...data, reason: 'OTHER' } }).text,
    'Your order was cancelled.',
  );
});

t.test('the attempts outlast an hour without a mail server', async (t) => {
  const { maxAttempts, initialBackoffMs } = config;
  const { retry } = deliveryQueue({
    maxAttempts: maxAttempts.fallback ?? 0,
    initialBackoffMs: initialBackoffMs.fallback ?? 0,
    deliveryKeptDays: 400,
  });
  const waits = Array.from({ length: retry.maxAttempts - 1 }, (_, i) =>
    retryAfterMs(retry, { attempt: i + 1, leftMs: retry.maxElapsedMs }, () => 0),
  );
  t.ok(waits.reduce((sum: number, ms) => sum + (ms ?? 0), 0) > 3_600_000, `waits ${waits}, at least`);
});
