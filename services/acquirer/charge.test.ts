import t from 'tap';
import { type Charge, type ChargeStatus, capture, refund, voidAuthorization } from './charge.ts';

const chargeOf = (status: ChargeStatus, captured_minor = 0, refunded_minor = 0): Charge => ({
  charge_id: 'ch_1',
  order_reference: 'order-1',
  status,
  decline_code: null,
  currency_code: 'EUR',
  amount_minor: 1000,
  captured_minor,
  refunded_minor,
  created_at: '2026-01-01T00:00:00.000Z',
});

const open = chargeOf('authorized');
const rows = [
  { name: 'captures all', decision: capture(open, 1000, 'answer'), is: 'captured', captured: 1000, refunded: 0 },
  { name: 'captures a part', decision: capture(open, 1, 'answer'), is: 'captured', captured: 1, refunded: 0 },
  { name: 'captures no more', decision: capture(open, 1001, 'answer'), refused: 'capture_exceeds_authorization' },
  {
    name: 'captures once',
    decision: capture(chargeOf('captured', 1), 1, 'answer'),
    refused: 'charge_already_captured',
  },
  {
    name: 'keeps a refunded capture',
    decision: capture(chargeOf('refunded', 1, 1), 1, 'answer'),
    refused: 'charge_already_captured',
  },
  { name: 'captures nothing voided', decision: capture(chargeOf('voided'), 1, 'answer'), refused: 'charge_voided' },
  {
    name: 'captures nothing declined',
    decision: capture(chargeOf('declined'), 1, 'answer'),
    refused: 'charge_declined',
  },
  { name: 'captures nothing pending', decision: capture(chargeOf('pending'), 1, 'answer'), refused: 'charge_pending' },
  { name: 'a card may decline its capture', decision: capture(open, 1, 'decline'), refused: 'capture_declined' },
  { name: 'voids an authorization', decision: voidAuthorization(open), is: 'voided', captured: 0, refunded: 0 },
  {
    name: 'voids no capture',
    decision: voidAuthorization(chargeOf('captured', 1)),
    refused: 'charge_already_captured',
  },
  { name: 'voids once', decision: voidAuthorization(chargeOf('voided')), refused: 'charge_voided' },
  { name: 'voids nothing pending', decision: voidAuthorization(chargeOf('pending')), refused: 'charge_pending' },
  { name: 'refunds a part', decision: refund(chargeOf('captured', 10), 4), is: 'captured', captured: 10, refunded: 4 },
  {
    name: 'refunds the rest',
    decision: refund(chargeOf('captured', 10, 4), 6),
    is: 'refunded',
    captured: 10,
    refunded: 10,
  },
  {
    name: 'refunds no more in sum',
    decision: refund(chargeOf('captured', 10, 4), 7),
    refused: 'refund_exceeds_capture',
  },
  {
    name: 'refunds nothing twice',
    decision: refund(chargeOf('refunded', 10, 10), 1),
    refused: 'refund_exceeds_capture',
  },
  { name: 'refunds no authorization', decision: refund(open, 1), refused: 'charge_not_captured' },
  { name: 'refunds nothing voided', decision: refund(chargeOf('voided'), 1), refused: 'charge_not_captured' },
];

for (const { name, decision, is, captured, refunded, refused } of rows) {
  t.test(name, async (t) => {
    t.equal(decision.refusal?.code, refused);
    t.equal(decision.charge?.status, is);
    t.equal(decision.charge?.captured_minor, captured);
    t.equal(decision.charge?.refunded_minor, refunded);
  });
}
