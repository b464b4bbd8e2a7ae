// Mistakes about what customers pay, read and are promised: prices, limits, digits, and requests that are repeated.
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
        file: 'services/runtime/money.ts',
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
];
