import { randomUUID as uuid } from 'node:crypto';
import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import type { MethodContract } from '@armature/proto/contract.ts';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { NotificationServiceContract } from '@armature/proto/notifications/v1/contract.ts';
import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import { LedgerServiceContract, PaymentServiceContract } from '@armature/proto/payments/v1/contract.ts';
import type { Code } from '@armature/runtime/errors';
import { address, wish } from '../e2e/shop.ts';

/** The certificate of a workload, and the user of the token: "orders", "developer+bo". */
export type Who = string;

export interface BadRow {
  name: string;
  method: MethodContract;
  as: Who;
  message: Record<string, unknown>;
  code: Code | 'OK';
  reason?: string;
  /** The paths of all fields that BadRequest names. */
  fields?: string[];
}

/** What the rows refer to in the shop. */
export interface Stage {
  sku: string;
  /** Has prices in dollars only. */
  dollarSku: string;
  archivedSku: string;
  /** Costs 10^14 minor units per piece. */
  dearSku: string;
  categoryId: string;
  productId: string;
  paymentId: string;
  orderId: string;
  rejectedOrderId: string;
  /** Requests that returned OK. */
  placed: Record<string, unknown>;
  reserved: Record<string, unknown>;
  created: Record<string, unknown>;
  received: Record<string, unknown>;
  authorized: Record<string, unknown>;
}

const { reserveStock, receiveStock, adjustStock, batchGetStock, watchStock } = InventoryServiceContract.methods;
const { getReservation, commitReservation, releaseReservation } = InventoryServiceContract.methods;
const { createCategory, createProduct, updateProduct, archiveProduct } = CatalogServiceContract.methods;
const { getProduct, batchGetVariants, listProducts } = CatalogServiceContract.methods;
const { authorizePayment, capturePayment, refundPayment, getPayment, listPayments } = PaymentServiceContract.methods;
const { placeOrder, getOrder, listOrders, cancelOrder, watchOrder, listOrderEvents } = OrderServiceContract.methods;

type Over = Record<string, unknown>;
type Want = Pick<BadRow, 'code' | 'reason' | 'fields'>;

const invalid = (...fields: string[]): Want => ({ code: 'INVALID_ARGUMENT', reason: 'FIELDS_INVALID', fields });
const reused: Want = { code: 'INVALID_ARGUMENT', reason: 'REQUEST_ID_REUSED', fields: ['request_id'] };
const refused = (code: Code, reason: string): Want => ({ code, reason });

const malformedIds = [
  'x',
  '',
  ' ',
  '00000000-0000-0000-0000-00000000000g',
  `${uuid()} `,
  "' or 1=1 --",
  'ü'.repeat(36),
];

/** Rows of one method; each changes a valid request. */
const rowsOf =
  (method: MethodContract, as: Who, fine: () => Over) =>
  (...rows: [name: string, over: Over, want: Want][]): BadRow[] =>
    rows.map(([name, over, want]) => ({
      name: `${method.name}: ${name}`,
      method,
      as,
      message: { ...fine(), ...over },
      ...want,
    }));

const many = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));

export function badRows(stage: Stage): BadRow[] {
  return [...inventoryRows(stage), ...catalogRows(stage), ...paymentRows(stage), ...orderRows(stage), ...idRows(stage)];
}

function inventoryRows({ sku, reserved, received }: Stage): BadRow[] {
  const lines = (quantity: bigint, name = sku) => ({ lines: [{ sku: name, quantity }] });
  const reserve = () => ({ requestId: uuid(), reservationId: uuid(), orderId: uuid(), ...lines(1n) });
  const receive = () => ({ requestId: uuid(), locationId: 'main', ...lines(1n) });
  const adjust = () => ({ requestId: uuid(), sku, locationId: 'main', delta: 1n, note: 'counted' });
  const quantity = 'lines[0].quantity';
  return [
    ...rowsOf(reserveStock, 'orders', reserve)(
      ['unknown SKU', lines(1n, 'NOT-HERE'), refused('NOT_FOUND', 'SKU_UNKNOWN')],
      ['a SKU that is SQL', lines(1n, "x'or'1'='1"), refused('NOT_FOUND', 'SKU_UNKNOWN')],
      ['a SKU that is SQL with blanks', lines(1n, "x' or '1'='1"), invalid('lines[0].sku')],
      ['a SKU with a NUL', lines(1n, 'a\0b'), invalid('lines[0].sku')],
      ['a SKU that is not ASCII', lines(1n, 'käse-🧀'), invalid('lines[0].sku')],
      ['a SKU in another case', lines(1n, sku.toLowerCase()), refused('NOT_FOUND', 'SKU_UNKNOWN')],
      ['no SKU', lines(1n, ''), invalid('lines[0].sku')],
      ['a long SKU', lines(1n, 'S'.repeat(65)), invalid('lines[0].sku')],
      ['quantity 0', lines(0n), invalid(quantity)],
      ['quantity below 0', lines(-1n), invalid(quantity)],
      ['quantity over the limit', lines(1_001n), invalid(quantity)],
      ['the least int64', lines(-(2n ** 63n)), invalid(quantity)],
      ['the greatest int64', lines(2n ** 63n - 1n), invalid(quantity)],
      ['more than there is', lines(1_000n), refused('FAILED_PRECONDITION', 'STOCK_INSUFFICIENT')],
      [
        'lines that add up to more than there is',
        { lines: many(100, () => ({ sku, quantity: 1_000n })) },
        refused('FAILED_PRECONDITION', 'STOCK_INSUFFICIENT'),
      ],
      ['no lines', { lines: [] }, invalid('lines')],
      ['10,000 lines', { lines: many(10_000, () => ({ sku, quantity: 1n })) }, invalid('lines')],
      ['no request id', { requestId: '' }, invalid('request_id')],
      [
        'no ids at all',
        { requestId: '', reservationId: '', orderId: '' },
        invalid('request_id', 'reservation_id', 'order_id'),
      ],
      ['the request id of another request', { requestId: reserved.requestId }, reused],
      [
        'a reservation id that is taken',
        { reservationId: reserved.reservationId },
        refused('ALREADY_EXISTS', 'RESERVATION_EXISTS'),
      ],
    ),
    ...rowsOf(receiveStock, 'developer+bo', receive)(
      ['quantity 0', lines(0n), invalid(quantity)],
      ['quantity over the limit', lines(1_000_001n), invalid(quantity)],
      ['10,000 lines', { lines: many(10_000, (i) => ({ sku: `S${i}`, quantity: 1n })) }, invalid('lines')],
      ['a location that is a path', { locationId: '../../etc/passwd' }, invalid('location_id')],
      ['a SKU that is SQL', lines(1n, "x'); drop table stock; --"), invalid('lines[0].sku')],
      ['the request id of another request', { requestId: received.requestId }, reused],
    ),
    ...rowsOf(adjustStock, 'developer+bo', adjust)(
      ['delta 0', { delta: 0n }, invalid('delta')],
      ['more taken away than there is', { delta: -1_000_000n }, refused('FAILED_PRECONDITION', 'STOCK_RESERVED')],
      ['unknown SKU', { sku: 'NOT-HERE' }, refused('NOT_FOUND', 'SKU_UNKNOWN')],
      ['a place that has none of it', { locationId: 'nowhere' }, refused('NOT_FOUND', 'SKU_UNKNOWN')],
      ['no note', { note: '' }, invalid('note')],
    ),
    ...rowsOf(batchGetStock, 'developer+ada', () => ({}))(
      ['no SKUs', { skus: [] }, invalid('skus')],
      ['too many SKUs', { skus: many(101, (i) => `S${i}`) }, invalid('skus')],
      ['the same SKU twice', { skus: ['A', 'A'] }, invalid('skus')],
    ),
    ...rowsOf(watchStock, 'developer+ada', () => ({}))(
      ['no SKUs', { skus: [] }, invalid('skus')],
      ['unknown SKU', { skus: ['NOT-HERE'] }, refused('NOT_FOUND', 'SKU_UNKNOWN')],
    ),
  ];
}

const catalogRows = (stage: Stage): BadRow[] => [
  ...categoryRows(),
  ...newProductRows(stage),
  ...productChangeRows(stage),
  ...catalogReadRows(),
];

function categoryRows(): BadRow[] {
  return [
    ...rowsOf(createCategory, 'developer+bo', () => ({ requestId: uuid(), slug: 'new', title: 'New' }))(
      ['a slug that is taken', { slug: 'things' }, refused('ALREADY_EXISTS', 'CATEGORY_EXISTS')],
      ['a slug in upper case', { slug: 'New' }, invalid('slug')],
      ['no title', { title: '' }, invalid('title')],
      ['a long title', { title: 'x'.repeat(201) }, invalid('title')],
    ),
  ];
}

function newProductRows({ categoryId, sku, created }: Stage): BadRow[] {
  const prices = (currencyCode: string, amountMinor: bigint) => [{ currencyCode, amountMinor }];
  const variant = (over: Over = {}) => ({ sku: 'NEW-1', title: 'New', prices: prices('EUR', 1n), ...over });
  const create = () => ({ requestId: uuid(), categoryId, title: 'New', description: '', variants: [variant()] });
  const price = 'variants[0].prices[0]';
  return [
    ...rowsOf(createProduct, 'developer+bo', create)(
      ['unknown category', { categoryId: uuid() }, refused('NOT_FOUND', 'CATEGORY_UNKNOWN')],
      ['a SKU that is taken', { variants: [variant({ sku })] }, refused('ALREADY_EXISTS', 'SKU_EXISTS')],
      [
        'a currency in lower case',
        { variants: [variant({ prices: prices('eur', 1n) })] },
        invalid(`${price}.currency_code`),
      ],
      [
        'a currency of four characters',
        { variants: [variant({ prices: prices('EURO', 1n) })] },
        invalid(`${price}.currency_code`),
      ],
      [
        'a currency that no card can be charged in',
        { variants: [variant({ prices: prices('XXX', 1n) })] },
        invalid(`${price}.currency_code`),
      ],
      ['no currency', { variants: [variant({ prices: prices('', 1n) })] }, invalid(`${price}.currency_code`)],
      ['a price below 0', { variants: [variant({ prices: prices('EUR', -1n) })] }, invalid(`${price}.amount_minor`)],
      [
        'a price over the limit',
        { variants: [variant({ prices: prices('EUR', 10n ** 14n + 1n) })] },
        invalid(`${price}.amount_minor`),
      ],
      [
        'two prices in one currency',
        { variants: [variant({ prices: [...prices('EUR', 1n), ...prices('EUR', 2n)] })] },
        { code: 'INVALID_ARGUMENT', reason: 'PRICE_DUPLICATE', fields: ['variants[0].prices[1]'] },
      ],
      ['10,000 variants', { variants: many(10_000, (i) => variant({ sku: `N${i}` })) }, invalid('variants')],
      ['a long description', { description: 'x'.repeat(5_001) }, invalid('description')],
      ['the request id of another request', { requestId: created.requestId }, reused],
    ),
  ];
}

function productChangeRows({ productId }: Stage): BadRow[] {
  const update = () => ({ requestId: uuid(), productId, updateMask: ['title'], title: 'Other' });
  return [
    ...rowsOf(updateProduct, 'developer+bo', update)(
      ['no mask', { updateMask: undefined }, invalid('update_mask')],
      [
        'a mask of what cannot change',
        { updateMask: ['product_id'] },
        { code: 'INVALID_ARGUMENT', reason: 'FIELD_MASK_INVALID', fields: ['update_mask'] },
      ],
      [
        'a mask of what is not there',
        { updateMask: ['__proto__'] },
        { code: 'INVALID_ARGUMENT', reason: 'FIELD_MASK_INVALID', fields: ['update_mask'] },
      ],
      ['an old version', { version: 99n }, refused('ABORTED', 'VERSION_CONFLICT')],
      ['unknown product', { productId: uuid() }, refused('NOT_FOUND', 'PRODUCT_NOT_FOUND')],
      ['a malformed category id', { categoryId: 'things' }, invalid('category_id')],
    ),
    ...rowsOf(archiveProduct, 'developer+bo', () => ({ requestId: uuid() }))([
      'unknown product',
      { productId: uuid() },
      refused('NOT_FOUND', 'PRODUCT_NOT_FOUND'),
    ]),
  ];
}

function catalogReadRows(): BadRow[] {
  return [
    ...rowsOf(batchGetVariants, 'developer', () => ({}))(
      ['no SKUs', {}, invalid('skus')],
      ['a long SKU', { skus: ['S'.repeat(65)] }, invalid('skus[0]')],
    ),
    ...rowsOf(listProducts, 'developer', () => ({}))(
      ['a page size below 0', { pageSize: -1 }, invalid('page_size')],
      ['a page size over the limit', { pageSize: 201 }, invalid('page_size')],
      [
        'a page token that no server issued',
        { pageToken: 'e30' },
        { code: 'INVALID_ARGUMENT', reason: 'PAGE_TOKEN_INVALID', fields: ['page_token'] },
      ],
      [
        'a page token that is no Base64',
        { pageToken: '💥' },
        { code: 'INVALID_ARGUMENT', reason: 'PAGE_TOKEN_INVALID', fields: ['page_token'] },
      ],
      ['a long page token', { pageToken: 'x'.repeat(501) }, invalid('page_token')],
    ),
  ];
}

function paymentRows({ paymentId, authorized }: Stage): BadRow[] {
  const amount = (currencyCode: string, amountMinor: bigint) => ({ amount: { currencyCode, amountMinor } });
  const authorize = () => ({
    requestId: uuid(),
    paymentId: uuid(),
    orderId: uuid(),
    customerId: 'ada',
    ...amount('EUR', 100n),
    paymentMethod: 'card_ok',
  });
  const positive: Want = { code: 'INVALID_ARGUMENT', reason: 'AMOUNT_INVALID', fields: ['amount.amount_minor'] };
  return [
    ...rowsOf(authorizePayment, 'orders', authorize)(
      ['no amount', { amount: undefined }, invalid('amount')],
      ['nothing', amount('EUR', 0n), positive],
      ['less than nothing', amount('EUR', -1n), invalid('amount.amount_minor')],
      ['a currency in lower case', amount('eur', 1n), invalid('amount.currency_code')],
      ['a card number with spaces', { paymentMethod: '4111 1111 1111 1111' }, invalid('payment_method')],
      ['no customer', { customerId: '' }, invalid('customer_id')],
      ['the request id of another request', { requestId: authorized.requestId }, reused],
      ['a payment id that is taken', { paymentId: authorized.paymentId }, refused('ALREADY_EXISTS', 'PAYMENT_EXISTS')],
    ),
    ...rowsOf(capturePayment, 'orders', () => ({ requestId: uuid() }))([
      'unknown payment',
      { paymentId: uuid() },
      refused('NOT_FOUND', 'PAYMENT_NOT_FOUND'),
    ]),
    ...rowsOf(refundPayment, 'orders', () => ({ requestId: uuid(), paymentId, ...amount('EUR', 1n) }))(
      ['the wrong currency', amount('USD', 1n), refused('FAILED_PRECONDITION', 'CURRENCY_MISMATCH')],
      ['more than was captured', amount('EUR', 10n ** 12n), refused('FAILED_PRECONDITION', 'REFUND_EXCEEDS_CAPTURE')],
      ['nothing', amount('EUR', 0n), positive],
      ['unknown payment', { paymentId: uuid() }, refused('NOT_FOUND', 'PAYMENT_NOT_FOUND')],
    ),
    ...rowsOf(LedgerServiceContract.methods.getAccount, 'developer+bo', () => ({ account: 'cash' }))(
      ['no currency', {}, invalid('currency_code')],
      ['an account that is no ASCII', { account: 'käse-🧀', currencyCode: 'EUR' }, invalid('account')],
      ['unknown account', { account: 'unknown', currencyCode: 'EUR' }, refused('NOT_FOUND', 'ACCOUNT_NOT_FOUND')],
    ),
  ];
}

const orderRows = (stage: Stage): BadRow[] => [...placeOrderRows(stage), ...placedOrderRows(stage)];

function placeOrderRows({ sku, dollarSku, archivedSku, dearSku, placed }: Stage): BadRow[] {
  const lines = (quantity: bigint, name = sku) => ({ lines: [{ sku: name, quantity }] });
  const quantity = 'lines[0].quantity';
  return [
    ...rowsOf(placeOrder, 'developer+ada', () => wish(sku))(
      ['unknown SKU', lines(1n, 'NOT-HERE'), refused('NOT_FOUND', 'SKU_UNKNOWN')],
      ['quantity 0', lines(0n), invalid(quantity)],
      ['quantity over the limit', lines(1_001n), invalid(quantity)],
      ['10,000 lines', { lines: many(10_000, () => ({ sku, quantity: 1n })) }, invalid('lines')],
      ['no lines', { lines: [] }, invalid('lines')],
      [
        'a currency it has no price in',
        { ...lines(1n, dollarSku) },
        refused('FAILED_PRECONDITION', 'PRICE_UNAVAILABLE'),
      ],
      ['a currency that does not exist', { currencyCode: 'ZZZ' }, refused('FAILED_PRECONDITION', 'PRICE_UNAVAILABLE')],
      [
        'too many units in two lines of one SKU',
        { lines: [...lines(600n).lines, ...lines(600n).lines] },
        invalid('lines[0].quantity', 'lines[1].quantity'),
      ],
      [
        'a price that is not the expected one',
        { lines: [{ ...lines(1n).lines[0], expectedUnitPrice: { currencyCode: 'EUR', amountMinor: 0n } }] },
        refused('FAILED_PRECONDITION', 'PRICE_CHANGED'),
      ],
      [
        'an expected total in another currency',
        { expectedTotal: { currencyCode: 'USD', amountMinor: 1n } },
        invalid('expected_total.currency_code'),
      ],
      ['a currency in lower case', { currencyCode: 'eur' }, invalid('currency_code')],
      ['what is no longer sold', lines(1n, archivedSku), refused('FAILED_PRECONDITION', 'SKU_NOT_ORDERABLE')],
      ['a total that is too large', lines(1_000n, dearSku), refused('OUT_OF_RANGE', 'TOTAL_TOO_LARGE')],
      ['no request id', { requestId: '' }, invalid('request_id')],
      ['the request id of another request', { ...lines(2n), requestId: placed.requestId }, reused],
      ["another customer's id", { customerId: 'eve' }, refused('PERMISSION_DENIED', 'PERMISSION_DENIED')],
      ['no customer id', { customerId: '' }, refused('PERMISSION_DENIED', 'PERMISSION_DENIED')],
      ['no address', { shippingAddress: undefined }, invalid('shipping_address')],
      [
        'a country that is none',
        { shippingAddress: { ...address, countryCode: 'Britain' } },
        invalid('shipping_address.country_code'),
      ],
      ['no street', { shippingAddress: { ...address, street: '' } }, invalid('shipping_address.street')],
      ['no mail address', { contactEmail: 'ada' }, invalid('contact_email')],
      ['two mail addresses', { contactEmail: 'ada@example.com, eve@example.com' }, invalid('contact_email')],
      [
        'a mail address with a line break',
        { contactEmail: 'ada@example.com\r\nBcc: eve@example.com' },
        invalid('contact_email'),
      ],
      ['a card number with dashes', { paymentMethod: '4111-1111-1111-1111' }, invalid('payment_method')],
    ),
  ];
}

/** Requests about orders that exist or do not, and what belongs to them. */
function placedOrderRows({ orderId, paymentId, rejectedOrderId }: Stage): BadRow[] {
  return [
    ...rowsOf(listOrders, 'developer+ada', () => ({ customerId: 'ada' }))(
      ['an unknown state', { state: 99 }, invalid('state')],
      ['a state below 0', { state: -1 }, invalid('state')],
      ['a page size over the limit', { pageSize: 201 }, invalid('page_size')],
      ["another customer's orders", { customerId: 'eve' }, refused('PERMISSION_DENIED', 'PERMISSION_DENIED')],
      ["all customers' orders", { customerId: '' }, refused('PERMISSION_DENIED', 'PERMISSION_DENIED')],
    ),
    ...rowsOf(LedgerServiceContract.methods.listEntries, 'developer+bo', () => ({}))([
      'of an account that is no ASCII',
      { account: 'käse-🧀' },
      invalid('account'),
    ]),
    ...rowsOf(listPayments, 'developer+ada', () => ({ customerId: 'ada' }))(
      ["another customer's payments", { customerId: 'eve' }, refused('PERMISSION_DENIED', 'PERMISSION_DENIED')],
      ["all customers' payments", { customerId: '' }, refused('PERMISSION_DENIED', 'PERMISSION_DENIED')],
    ),
    ...rowsOf(NotificationServiceContract.methods.listDeliveries, 'developer+ada', () => ({ customerId: 'ada' }))(
      ["another customer's deliveries", { customerId: 'eve' }, refused('PERMISSION_DENIED', 'PERMISSION_DENIED')],
      ["all customers' deliveries", { customerId: '' }, refused('PERMISSION_DENIED', 'PERMISSION_DENIED')],
    ),
    ...rowsOf(NotificationServiceContract.methods.listDeliveries, 'developer+bo', () => ({}))([
      'an unknown state',
      { state: 77 },
      invalid('state'),
    ]),
    ...rowsOf(watchOrder, 'developer+ada', () => ({ orderId }))(
      ['a sequence below 0', { afterSequence: -1n }, invalid('after_sequence')],
      ['unknown order', { orderId: uuid() }, refused('NOT_FOUND', 'ORDER_NOT_FOUND')],
    ),
    ...rowsOf(cancelOrder, 'developer+ada', () => ({ requestId: uuid() }))(
      ['unknown order', { orderId: uuid() }, refused('NOT_FOUND', 'ORDER_NOT_FOUND')],
      ['an order that was rejected', { orderId: rejectedOrderId }, refused('FAILED_PRECONDITION', 'ORDER_CLOSED')],
    ),
    ...[getOrder, listOrderEvents, watchOrder, cancelOrder].flatMap((method) =>
      rowsOf(method, 'developer+eve', () => ({ requestId: uuid() }))([
        "another customer's order",
        { orderId },
        refused('NOT_FOUND', 'ORDER_NOT_FOUND'),
      ]),
    ),
    ...rowsOf(getPayment, 'developer+eve', () => ({}))([
      "another customer's payment",
      { paymentId },
      refused('NOT_FOUND', 'PAYMENT_NOT_FOUND'),
    ]),
  ];
}

/** Malformed ids in every field that takes a single id. */
function idRows(stage: Stage): BadRow[] {
  const places: [MethodContract, Who, string, Over][] = [
    [getReservation, 'orders', 'reservation_id', {}],
    [commitReservation, 'orders', 'reservation_id', { requestId: uuid() }],
    [releaseReservation, 'orders', 'reservation_id', { requestId: uuid(), orderId: uuid() }],
    [releaseReservation, 'orders', 'order_id', { requestId: uuid(), reservationId: uuid() }],
    [getProduct, 'developer', 'product_id', {}],
    [getPayment, 'orders', 'payment_id', {}],
    [capturePayment, 'orders', 'payment_id', { requestId: uuid() }],
    [getOrder, 'developer+ada', 'order_id', {}],
    [placeOrder, 'developer+ada', 'request_id', wish(stage.sku)],
  ];
  const camel = (field: string) => field.replace(/_(\w)/g, (_, character: string) => character.toUpperCase());
  return places.flatMap(([method, as, field, fine]) =>
    rowsOf(
      method,
      as,
      () => fine,
    )(
      ...malformedIds.map((id): [string, Over, Want] => [
        `${field} ${JSON.stringify(id)}`,
        { [camel(field)]: id },
        invalid(field),
      ]),
    ),
  );
}
