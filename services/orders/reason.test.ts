import { OrderReason } from '@armature/proto/orders/v1/orders.ts';
import t from 'tap';
import { customerReason, nameList } from './reason.ts';

t.test('only reasons that the contract names reach customers', async (t) => {
  for (const [reason, detail, expected] of [
    ['STOCK_INSUFFICIENT', 'LAM-1,LAM-2', { reason: 'STOCK_INSUFFICIENT', reasonDetail: 'LAM-1,LAM-2' }],
    ['PAYMENT_DECLINED', 'insufficient_funds', { reason: 'PAYMENT_DECLINED', reasonDetail: 'insufficient_funds' }],
    ['OPERATOR', 'a note of the operator', { reason: 'OPERATOR', reasonDetail: '' }],
    ['TIME_LIMIT', '', { reason: 'TIME_LIMIT', reasonDetail: '' }],
    ['AMOUNT_INVALID', 'amount must be more than nothing', { reason: 'CHECKOUT_FAILED', reasonDetail: '' }],
    ['FIELDS_INVALID', 'lines[0].quantity', { reason: 'CHECKOUT_FAILED', reasonDetail: '' }],
    ['RESERVATION_EXISTS', 'another reservation has this id', { reason: 'CHECKOUT_FAILED', reasonDetail: '' }],
    ['UNSPECIFIED', '', { reason: 'CHECKOUT_FAILED', reasonDetail: '' }],
    ['', '', { reason: 'CHECKOUT_FAILED', reasonDetail: '' }],
  ] as const) {
    t.strictSame(customerReason(reason, detail), expected, reason);
    t.ok(Object.hasOwn(OrderReason, `ORDER_REASON_${customerReason(reason, detail).reason}`));
  }
});

t.test('a detail names whole SKUs, and says when there are more', async (t) => {
  t.equal(nameList(['LAM-1', 'LAM-2']), 'LAM-1,LAM-2');
  t.equal(nameList([]), '');
  const skus = Array.from({ length: 100 }, (_, index) => `${'S'.repeat(61)}${String(index).padStart(3, '0')}`);
  const text = nameList(skus);
  t.match(text, /^S{61}000,.*S{61}006 and more$/);
  t.ok(text.length <= 500);
});
