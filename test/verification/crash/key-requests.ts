// Requests that must have one effect however often they are sent: their content, and how their effects are counted.
import { randomUUID } from 'node:crypto';
import type { ServiceContract } from '@armature/proto/contract.ts';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import { Order } from '@armature/proto/orders/v1/orders.ts';
import { PaymentServiceContract } from '@armature/proto/payments/v1/contract.ts';
import { type ClientOptions, createClient } from '@armature/runtime/client';
import { derivedId } from '@armature/runtime/id';
import { follow, openClientSets, wish } from '../../e2e/shop.ts';
import type { Teardown } from '../../support/infra.ts';
import type { Random } from '../../support/random.ts';
import { developerCredentials, token, workloadCertificate } from '../../support/service.ts';
import { adjusted, authorized, type EffectCount, placed, received, refunded, reserved } from './key-effects.ts';
import type { CrashMesh } from './mesh.ts';

/** Weight of each kind of request; its share is the weight out of the sum. */
export const shares = {
  'adjust stock': 33,
  'receive stock': 15,
  'reserve stock': 24,
  'reserve what is scarce': 6,
  'authorize a payment': 9,
  'authorize a bad card': 4,
  'refund a payment': 5,
  'refund more than there is': 2,
  'place an order': 2,
} as const;
export type KindName = keyof typeof shares;

/** A request that is sent many times. */
export interface KeyRequest {
  /** The key: its request id. */
  readonly id: string;
  readonly kind: KindName;
  readonly message: { requestId: string };
  /** Finds the effects of the request. A function of the response where only the response contains it. */
  readonly handle: string | ((response: Buffer) => string);
}

export interface Kind {
  readonly service: 'inventory' | 'payments' | 'orders';
  /** Full path of the method. */
  readonly method: string;
  make(id: string): Pick<KeyRequest, 'message' | 'handle'>;
  /** Sends the request once and returns the bytes of the response. Throws RpcError. */
  send(message: KeyRequest['message'], timeoutMs: number): Promise<Buffer>;
  readonly effects: readonly EffectCount[];
}

export type Kinds = Readonly<Record<KindName, Kind>>;

/** Resources that the requests use. */
interface Goods {
  /** An order that was rejected. Reservations and payments need an order. */
  readonly anchor: string;
  readonly shelves: readonly string[];
  /** A SKU, and a payment, with enough for half of the requests that want it. */
  readonly scarce: string;
  readonly smallPurse: string;
  /** Payments that never run out of money to refund. */
  readonly purses: readonly string[];
}

const money = (amountMinor: bigint) => ({ currencyCode: 'EUR', amountMinor });

/** Creates all resources that `keys` requests need. Returns how each kind is made, sent and counted. */
export async function openKinds(t: Teardown, mesh: CrashMesh, random: Random, keys: number): Promise<Kinds> {
  const senders = await openSenders(t, mesh);
  const shop = await openClientSets(t, mesh.grpcOf);
  const half = (kind: KindName) =>
    BigInt(Math.max(1, Math.round((keys * shares[kind]) / sum(Object.values(shares)) / 2)));
  const anchor = await refusedOrder(shop);
  const purse = async (amountMinor: bigint) => {
    const { paymentId, request } = cardPayment(anchor, 'card_ok', amountMinor);
    const { authorizePayment, capturePayment } = senders.payments;
    await authorizePayment!({ requestId: randomUUID(), ...request }, 10_000);
    await capturePayment!({ requestId: randomUUID(), paymentId }, 10_000);
    return paymentId;
  };
  const several = <T>(make: () => Promise<T>) => Promise.all(Array.from({ length: 8 }, make));
  const goods = {
    anchor,
    shelves: await several(() => shop.stock(1_000_000n)),
    scarce: await shop.stock(half('reserve what is scarce')),
    smallPurse: await purse(half('refund more than there is')),
    purses: await several(() => purse(1_000_000n)),
  };
  return { ...stockKinds(goods, senders, random), ...moneyKinds(goods, senders, random) };
}

type StockKind = Extract<KindName, `${string} stock` | `reserve ${string}`>;

function stockKinds(
  { anchor, shelves, scarce }: Goods,
  { inventory }: Senders,
  random: Random,
): Pick<Kinds, StockKind> {
  const { adjustStock, receiveStock, reserveStock } = InventoryServiceContract.methods;
  const units = (most: number) => BigInt(random.between(1, most));
  const reserve =
    (skus: readonly string[], most: number): Kind['make'] =>
    (id) => {
      const reservationId = randomUUID();
      const lines = [{ sku: random.pick(skus), quantity: units(most) }];
      return { message: { requestId: id, reservationId, orderId: anchor, lines }, handle: reservationId };
    };
  const reservation = { service: 'inventory', method: reserveStock.path, send: inventory.reserveStock! } as const;
  return {
    'adjust stock': {
      service: 'inventory',
      method: adjustStock.path,
      send: inventory.adjustStock!,
      make(id) {
        const change = { sku: random.pick(shelves), locationId: 'main', delta: units(9), note: id };
        return { message: { requestId: id, ...change }, handle: id };
      },
      effects: adjusted,
    },
    'receive stock': {
      service: 'inventory',
      method: receiveStock.path,
      send: inventory.receiveStock!,
      make(id) {
        const sku = `KEY-${id.toUpperCase()}`;
        return { message: { requestId: id, locationId: 'main', lines: [{ sku, quantity: units(9) }] }, handle: sku };
      },
      effects: received,
    },
    'reserve stock': { ...reservation, make: reserve(shelves, 3), effects: reserved(anchor, `l.sku <> '${scarce}'`) },
    'reserve what is scarce': {
      ...reservation,
      make: reserve([scarce], 1),
      effects: reserved(anchor, `l.sku = '${scarce}'`),
    },
  };
}

function moneyKinds(
  { anchor, shelves, smallPurse, purses }: Goods,
  { payments, orders }: Senders,
  random: Random,
): Omit<Kinds, StockKind> {
  const { authorizePayment, refundPayment } = PaymentServiceContract.methods;
  const authorize =
    (card: string): Kind['make'] =>
    (id) => {
      const { paymentId, request } = cardPayment(anchor, card, BigInt(random.between(100, 9_999)));
      return { message: { requestId: id, ...request }, handle: paymentId };
    };
  const refund =
    (from: readonly string[]): Kind['make'] =>
    (id) => {
      const message = { requestId: id, paymentId: random.pick(from), amount: money(1n) };
      // The id of the operation at the acquirer is derived from principal, method and key.
      return { message, handle: derivedId(`service:orders\n${refundPayment.path}\n${id}`) };
    };
  const authorization = {
    service: 'payments',
    method: authorizePayment.path,
    send: payments.authorizePayment!,
  } as const;
  const givingBack = { service: 'payments', method: refundPayment.path, send: payments.refundPayment! } as const;
  return {
    'authorize a payment': {
      ...authorization,
      make: authorize('card_ok'),
      effects: authorized(anchor, 'AUTHORIZED', true),
    },
    'authorize a bad card': {
      ...authorization,
      make: authorize('card_declined'),
      effects: authorized(anchor, 'DECLINED', false),
    },
    'refund a payment': { ...givingBack, make: refund(purses), effects: refunded(`o.payment_id <> '${smallPurse}'`) },
    'refund more than there is': {
      ...givingBack,
      make: refund([smallPurse]),
      effects: refunded(`o.payment_id = '${smallPurse}'`),
    },
    'place an order': {
      service: 'orders',
      method: OrderServiceContract.methods.placeOrder.path,
      send: orders.placeOrder!,
      make: (id) => ({
        message: { ...wish(random.pick(shelves)), requestId: id },
        handle: (response) => Order.decode(response).orderId,
      }),
      effects: placed(anchor),
    },
  };
}

function cardPayment(orderId: string, paymentMethod: string, amountMinor: bigint) {
  const paymentId = randomUUID();
  return { paymentId, request: { paymentId, orderId, customerId: 'ada', amount: money(amountMinor), paymentMethod } };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

async function refusedOrder(shop: Awaited<ReturnType<typeof openClientSets>>): Promise<string> {
  const { orderId } = await shop.customer.orders.placeOrder(wish(await shop.stock(0n)));
  await follow(shop.customer, orderId);
  return orderId;
}

type Send = (message: object, timeoutMs: number) => Promise<Buffer>;
type Senders = Record<Kind['service'], Record<string, Send>>;

/** Staff changes stock, orders reserves it and moves money, and a customer places orders. */
async function openSenders(t: Teardown, mesh: CrashMesh): Promise<Senders> {
  const [developer, orders] = [await developerCredentials(), await workloadCertificate('orders')];
  const [staff, customer] = [await token('bo'), await token('ada')];
  const open = (contract: ServiceContract, service: Kind['service'], who: Pick<ClientOptions, 'tls' | 'token'>) => {
    const address = mesh.grpcOf(service);
    const client = createClient(undecoded(contract), {
      ...who,
      addresses: [address],
      expectWorkload: `service:${service}`,
    });
    t.teardown(() => client.close());
    const methods = client as unknown as Record<string, (message: object, options: object) => Promise<Buffer>>;
    const names = Object.keys(contract.methods);
    return Object.fromEntries(
      names.map((name): [string, Send] => [name, (message, timeoutMs) => methods[name]!(message, { timeoutMs })]),
    );
  };
  const { adjustStock, receiveStock } = open(InventoryServiceContract, 'inventory', {
    tls: developer,
    token: () => staff,
  });
  return {
    inventory: {
      ...open(InventoryServiceContract, 'inventory', { tls: orders }),
      ...{ adjustStock: adjustStock!, receiveStock: receiveStock! },
    },
    payments: open(PaymentServiceContract, 'payments', { tls: orders }),
    orders: open(OrderServiceContract, 'orders', { tls: developer, token: () => customer }),
  };
}

/** A contract that leaves responses as the bytes received: equal messages may have different bytes. */
function undecoded(contract: ServiceContract): ServiceContract {
  const methods = Object.entries(contract.methods).map(([name, method]) => [
    name,
    { ...method, response: { ...method.response, decode: (bytes: Uint8Array) => Buffer.from(bytes) } },
  ]);
  return { ...contract, methods: Object.fromEntries(methods) };
}
