// Mutations of amounts that customers pay and read: prices, limits, digits, and repeated requests.
import { type Mutation, tests } from './mutation.ts';

const pricing = 'services/orders/pricing.ts';

export const moneyMutations: readonly Mutation[] = [
  {
    name: 'limit before lines are merged',
    breaks: 'an accepted order is refused for its shape when its stock is reserved',
    edits: [
      {
        file: pricing,
        old: '  if (quantity > quantityMax) {',
        new: '  if (same.some(([, line]) => line.quantity > quantityMax)) {',
      },
    ],
    caughtBy: {
      detector: tests('services/orders/pricing.test.ts', 'the shape of a request'),
      says: /lines\[0\]\.quantity/,
    },
  },
  {
    name: 'digits of CLDR',
    breaks: 'a receipt shows a hundred or a thousand times what was paid',
    edits: [
      {
        file: 'services/runtime/money/money.ts',
        old: 'export const minorUnitDigits = (code: string): number | undefined => currencies.get(code)?.digits;',
        new: `export const minorUnitDigits = (code: string): number | undefined =>
  currencies.has(code)
    ? new Intl.NumberFormat('en', { style: 'currency', currency: code }).resolvedOptions().maximumFractionDigits
    : undefined;`,
      },
    ],
    caughtBy: {
      detector: tests('services/notifications/receipt.test.ts', 'a receipt shows amounts with the digits'),
      says: /HUF 12,990\.00/,
    },
  },
  {
    name: 'expected price ignored',
    breaks: 'a customer is charged another price than the one that was shown',
    edits: [
      {
        file: pricing,
        old: '    return shown !== undefined && shown.amountMinor !== unitPriceMinor;',
        new: '    return shown !== undefined && shown.amountMinor < 0n && unitPriceMinor < 0n;',
      },
    ],
    caughtBy: {
      detector: tests('services/orders/pricing.test.ts', 'pricing', "compares today's prices with the expected ones"),
      says: /price_changed/,
    },
  },
  {
    name: 'hash of the bytes as they came',
    breaks: 'a request that is repeated by a newer client is refused as another one',
    edits: [
      {
        file: 'services/runtime/rpc/decode.ts',
        old: '        hash: hash(bytes, request.encode(call.message).finish()),',
        new: '        hash: hash(bytes, bytes),',
      },
    ],
    caughtBy: {
      detector: tests('services/runtime/rpc/decode.test.ts'),
      says: /compare\(plain\.hash\)/,
    },
  },
  {
    name: 'rest computed by orders',
    breaks: 'an order that was partly refunded can never be cancelled',
    edits: [
      {
        file: 'services/orders/cancellation.ts',
        old: `    payments.refundPayment({ requestId: ctx.key, paymentId: ctx.data.paymentId }, toPayments(ctx));`,
        new: `    payments.refundPayment(
      {
        requestId: ctx.key,
        paymentId: ctx.data.paymentId,
        amount: money(ctx.data.currencyCode, BigInt(ctx.data.totalMinor)),
      },
      toPayments(ctx),
    );`,
      },
    ],
    caughtBy: {
      detector: tests('services/orders/saga.requests.test.ts', 'every version of every saga sends'),
      says: /amount/,
    },
  },
  {
    name: 'ended hold stays in the ledger',
    breaks: 'the books show money on cards that the acquirer does not hold',
    edits: [
      {
        file: 'services/payments/payment.ts',
        old: '    moved: { kind: entry, amountMinor: payment.amountMinor, externalId },',
        new: `    moved: entry === 'release' ? { kind: entry, amountMinor: payment.amountMinor, externalId } : null,`,
      },
    ],
    caughtBy: {
      detector: tests('services/payments/holds.test.ts', 'a hold that', 'is detected by a capture'),
      says: /detected by a capture|the ledger holds nothing/,
    },
  },
  {
    name: 'void of a charged payment has nothing to do',
    breaks: 'an order is cancelled while its customer is charged',
    edits: [
      {
        file: 'services/payments/acquirer-operations.ts',
        old: "  state === 'CAPTURED' ? { kind: 'refused', code: alreadyCaptured } : { kind: 'unneeded' };",
        new: "  state === 'PENDING' ? { kind: 'refused', code: alreadyCaptured } : { kind: 'unneeded' };",
      },
      {
        file: 'services/payments/payment.ts',
        old: "(kind !== 'void' || rules.void[payment.state] !== 'same')",
        new: "(kind !== 'void' || rules.void[payment.state] === 'busy')",
      },
    ],
    caughtBy: {
      detector: tests('services/payments/foreign-captures.test.ts', 'a void of a charge that another request captured'),
      says: /the periodic job leaves it to the operator/,
    },
  },
  {
    name: 'free order asks payments',
    breaks: 'an order that costs nothing is cancelled',
    edits: [
      {
        file: 'services/orders/saga.ts',
        old: 'await startSaga(tx, isFree(order) ? free[0] : checkout, {',
        new: 'await startSaga(tx, isFree(order) && order.lines.length > 1_000 ? free[0] : checkout, {',
      },
    ],
    caughtBy: {
      detector: tests('test/e2e/orders/cancellation.ts', 'a free order completes without a payment'),
      says: /COMPLETED/,
    },
  },
  {
    name: 'every conflict is final',
    breaks: 'a charge stands that was taken for refused',
    edits: [
      {
        file: 'services/payments/operation-status.ts',
        old: '  if (finalRefusals[kind].has(',
        new: '  if (status === 402 || status === 409 || finalRefusals[kind].has(',
      },
    ],
    caughtBy: {
      detector: tests('services/payments/operation-status.test.ts', 'reads the status of an operation'),
      says: /a conflict with a code that is not known/,
    },
  },
  {
    name: 'payment method of another customer',
    breaks: 'a customer pays with the card of another one',
    edits: [
      {
        file: 'services/acquirer/acquirer.ts',
        old: 'issued.customer_reference !== customer_reference',
        new: 'customer_reference === undefined',
      },
    ],
    caughtBy: {
      detector: tests('services/payments/holds.test.ts', 'a payment method of another customer'),
      says: /payment_method_not_owned/,
    },
  },
  {
    name: 'another card under one request id',
    breaks: 'a payment by one card is reported as authorized by another',
    edits: [
      {
        file: 'services/payments/operations.ts',
        old: "methodHash.compare(method) === 'different'",
        new: "methodHash.compare(method) === 'unknown'",
      },
    ],
    caughtBy: {
      detector: tests('services/payments/recovery.test.ts', 'while the acquirer is down'),
      says: /another payment method is another request/,
    },
  },
  {
    name: 'refusals that are not recorded are final',
    breaks: 'an amount is held for an order that was declined',
    edits: [
      {
        file: 'services/payments/operation-status.ts',
        old: 'unrecorded.has(status.code)',
        new: "status.code === ''",
      },
    ],
    caughtBy: {
      detector: tests('services/payments/refusals.test.ts', 'although the key has acted'),
      says: /"refused"/,
    },
  },
];
