import t from 'tap';
import { afterFailure, backoffMs, type MailData } from './delivery.ts';
import { amount, render } from './receipt.ts';

const data: MailData = {
  orderId: '01900000-0000-7000-8000-000000000abc',
  currencyCode: 'EUR',
  totalMinor: '2550',
  lines: [{ sku: 'A-1', title: 'Tea & <b>Cake</b>', quantity: '3', unitPriceMinor: '850' }],
  reason: '',
  refundedMinor: '0',
};

t.test('amounts', async (t) => {
  for (const [minor, currency, shown] of [
    ['1234', 'EUR', 'EUR 12.34'],
    ['5', 'USD', 'USD 0.05'],
    ['0', 'EUR', 'EUR 0.00'],
    ['1234', 'JPY', 'JPY 1234'],
    ['1234', 'BHD', 'BHD 1.234'],
    ['900719925474099312', 'EUR', 'EUR 9007199254740993.12'],
  ] as const) {
    t.equal(amount(minor, currency), shown);
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

t.test('a cancellation says why and what comes back', async (t) => {
  const cancelled = { ...data, lines: [], reason: 'CUSTOMER_REQUEST', refundedMinor: '2550' };
  t.match(
    render({ template: 'order_cancelled', data: cancelled }).text,
    /as you asked[\s\S]*EUR 25\.50 back to your card/,
  );
  const declined = { ...data, lines: [], reason: 'PAYMENT_DECLINED' };
  t.match(render({ template: 'order_cancelled', data: declined }).text, /card was declined[\s\S]*Nothing was charged/);
});

t.test('waits grow fourfold and end', async (t) => {
  t.strictSame(
    [1, 2, 3, 20].map((attempt) => backoffMs(attempt, 1_000)),
    [1_000, 4_000, 16_000, 3_600_000],
  );
  t.equal(afterFailure(7, 8), 'QUEUED');
  t.equal(afterFailure(8, 8), 'DEAD');
});
