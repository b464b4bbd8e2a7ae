import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Init } from '@armature/clients';
import {
  catalogClient,
  inventoryClient,
  ledgerClient,
  notificationsClient,
  ordersClient,
  paymentsClient,
} from '@armature/clients';
import { type Order, type OrderEvent, OrderState, type PlaceOrderRequest } from '@armature/proto/orders/v1/orders.ts';
import type { Teardown } from '../support/infra.ts';
import {
  developerCredentials,
  type Mesh,
  type RunningService,
  type StartOptions,
  startMesh,
  token,
} from '../support/service.ts';

/** Client set: the clients of all services for one person, with the developer's certificate. */
export type ClientSet = Awaited<ReturnType<Shop['as']>>;

/** The whole mesh with its own new schemas, virtual host and acquirer. */
export interface Shop {
  mesh: Mesh;
  /** A running service. Throws if the mesh has no service of that name. */
  service(name: string): RunningService;
  as(subject: string): Promise<ReturnType<typeof clientSet>>;
  staff: ReturnType<typeof clientSet>;
  customer: ReturnType<typeof clientSet>;
  /** Puts a new product on sale and returns its SKU. */
  stock(units: bigint, prices?: Record<string, bigint>): Promise<string>;
  /** On hand, reserved and available units of a SKU. */
  shelf(sku: string): Promise<{ onHand: bigint; reserved: bigint; available: bigint }>;
}

export const address = {
  recipient: 'Ada Lovelace',
  street: '12 St James Square',
  city: 'London',
  postalCode: 'SW1Y 4JH',
  countryCode: 'GB',
};

/** An order by ada of one line, in euros and with a card that works, unless overridden. */
export function wish(sku: string, over: Init<PlaceOrderRequest> = {}): Init<PlaceOrderRequest> {
  return {
    requestId: randomUUID(),
    customerId: 'ada',
    lines: [{ sku, quantity: 1n }],
    currencyCode: 'EUR',
    paymentMethod: 'card_ok',
    contactEmail: 'ada@example.com',
    shippingAddress: address,
    ...over,
  };
}

/** Variables of services by name, in addition to those of every service. */
export type Settings = Partial<Record<string, Record<string, string>>>;

/**
 * `names` are the services to start, all by default. `tokens` overrides the claims of people's tokens. `common` are
 * settings of every service.
 */
export async function openShop(
  t: Teardown,
  settings: Settings = {},
  names?: readonly string[],
  tokens: Parameters<typeof token>[1] = {},
  common: Omit<StartOptions, 'env'> = {},
): Promise<Shop> {
  const mesh = await startMesh(t, names, (name) => ({ ...common, env: settings[name] }));
  const service = (name: string): RunningService => {
    const running = mesh[name];
    if (!running) throw new Error(`the mesh has no ${name}`);
    return running;
  };
  return { mesh, service, ...(await openClientSets(t, (name) => service(name).grpc, tokens)) };
}

/** Client sets and helpers for a mesh that already runs, by the addresses of its services. */
export async function openClientSets(
  t: Teardown,
  addressOf: (name: string) => string,
  tokens: Parameters<typeof token>[1] = {},
): Promise<Omit<Shop, 'mesh' | 'service'>> {
  const tls = await developerCredentials();
  const as = async (subject: string) => {
    const bearer = await token(subject, tokens);
    const clients = clientSet((name) => ({ addresses: [addressOf(name)], tls, token: () => bearer }));
    t.teardown(() => {
      for (const client of Object.values(clients)) client.close();
    });
    return clients;
  };
  const [staff, customer] = [await as('bo'), await as('ada')];
  const { categoryId } = await staff.catalog.createCategory({ slug: 'things', title: 'Things' });
  return {
    as,
    staff,
    customer,
    async stock(units, prices = { EUR: 1_250n, USD: 1_400n }) {
      const sku = `T-${randomUUID().slice(0, 13).toUpperCase()}`;
      const money = Object.entries(prices).map(([currencyCode, amountMinor]) => ({ currencyCode, amountMinor }));
      const variants = [{ sku, title: 'One size', prices: money }];
      await staff.catalog.createProduct({ categoryId, title: `Thing ${sku}`, variants });
      if (units > 0n) await staff.inventory.receiveStock({ locationId: 'main', lines: [{ sku, quantity: units }] });
      return sku;
    },
    async shelf(sku) {
      const { levels } = await staff.inventory.batchGetStock({ skus: [sku] });
      const [level] = levels;
      if (!level || levels.length > 1) throw new Error(`${levels.length} levels of ${sku}`);
      const { onHand, reserved, available } = level;
      return { onHand, reserved, available };
    },
  };
}

type Connect = Parameters<typeof ordersClient>[0];

function clientSet(to: (name: string) => Connect) {
  return {
    catalog: catalogClient(to('catalog')),
    inventory: inventoryClient(to('inventory')),
    payments: paymentsClient(to('payments')),
    ledger: ledgerClient(to('payments')),
    orders: ordersClient(to('orders')),
    notifications: notificationsClient(to('notifications')),
  };
}

/** Waits for the e-mail about an order with this subject, and returns it with its lines joined. */
export async function mailAbout(shop: Shop, orderId: string, subject: RegExp): Promise<string> {
  const folder = join(shop.service('notifications').dir, 'mail', 'new');
  for (const deadline = Date.now() + 20_000; ; ) {
    // The folder is made with the first e-mail.
    const names = existsSync(folder) ? readdirSync(folder) : [];
    const mails = names.map((name) => readFileSync(join(folder, name), 'utf8').replace(/=\r?\n/g, ''));
    const found = mails.find(
      (text) => text.includes(orderId) && subject.test(/^Subject: (.*)$/m.exec(text)?.[1] ?? ''),
    );
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`no e-mail about ${orderId} with ${subject} in its subject`);
    await sleep(50);
  }
}

/** Follows an order's stream to its end, and returns the events. */
export async function follow(who: Pick<ClientSet, 'orders'>, orderId: string, after = 0n): Promise<OrderEvent[]> {
  const events: OrderEvent[] = [];
  for await (const event of who.orders.watchOrder({ orderId, afterSequence: after }, { timeoutMs: 30_000 })) {
    events.push(event);
  }
  return events;
}

/** Places an order and waits for its end. */
export async function buy(who: Pick<ClientSet, 'orders'>, request: Init<PlaceOrderRequest>): Promise<Order> {
  const { orderId } = await who.orders.placeOrder(request);
  await follow(who, orderId);
  return who.orders.getOrder({ orderId });
}

/** Name of the state for messages: PENDING, COMPLETED and so on. */
export function stateName({ state }: Pick<Order, 'state'>): string {
  return (OrderState[state] ?? 'UNKNOWN').replace('ORDER_STATE_', '');
}
