import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Order } from '@armature/proto/orders/v1/orders.ts';
import { formatMinor } from '@armature/runtime/money';
import { mailDirectory } from '../devmesh/environment.ts';
import { meshFile } from '../devmesh/mesh.ts';
import { repository, type State, writeAtomically } from '../devmesh/state.ts';
import type { CatalogueVariant } from './catalogue.ts';
import type { Expectations } from './expectations.ts';
import { address } from './ordering.ts';
import type { Screen } from './screen.ts';
import type { Shop } from './shop.ts';

/** Adds up the whole ledger, which must come to nothing in every currency. */
export async function showTrialBalance(shop: Shop, screen: Screen, expect: Expectations): Promise<void> {
  const balance = await shop.ledger.getTrialBalance({}, await shop.as('bo'));
  screen.table([
    ['account', 'currency', 'posted', 'pending'],
    ...balance.accounts.map((one) => [
      one.account,
      one.currencyCode,
      formatMinor(one.postedMinor, one.currencyCode),
      formatMinor(one.pendingMinor, one.currencyCode),
    ]),
  ]);
  for (const total of balance.totals) {
    const { currencyCode, debitsMinor, creditsMinor, differenceMinor } = total;
    const [debits, credits] = [debitsMinor, creditsMinor].map((minor) => formatMinor(minor, currencyCode));
    const sums = `${currencyCode}: debits ${debits} less credits ${credits} is zero`;
    expect.that(sums, differenceMinor, 0n);
  }
  expect.that('the ledger is balanced in EUR and USD', summary(balance), {
    balanced: true,
    currencies: ['EUR', 'USD'],
  });
}

const summary = ({ balanced, totals }: { balanced: boolean; totals: { currencyCode: string }[] }) => ({
  balanced,
  currencies: ['EUR', 'USD'].filter((currency) => totals.some(({ currencyCode }) => currencyCode === currency)),
});

const orders = 'OrderService';

/** Commands to go on with, which work as they are printed. */
export function suggestions(
  state: State,
  { orderId }: Order,
  variant: CatalogueVariant,
): [what: string, line: string][] {
  const file = join(state.dir, 'demo', 'order.json');
  mkdirSync(join(state.dir, 'demo'), { recursive: true });
  writeAtomically(file, `${JSON.stringify(anotherOrder(variant), null, 2)}\n`);
  const id = JSON.stringify({ order_id: orderId });
  const skus = JSON.stringify({ skus: [variant.sku] });
  const call = (rpc: string, data: string, as: string) =>
    `npx armature call ${rpc}${data && ` --data ${data}`} --as ${as}`;
  return [
    ['everything that can be called', 'npx armature call'],
    ["an order's way, again", call(`${orders}/WatchOrder`, `'${id}'`, 'customer:ada')],
    ['another order', call(`${orders}/PlaceOrder`, `@${fromHere(file)}`, 'customer:ada')],
    ["all of ada's orders", call(`${orders}/ListOrders`, `'{"customer_id":"ada"}'`, 'customer:ada')],
    ['the mails that were sent', call('NotificationService/ListDeliveries', '', 'staff:bo')],
    ['the books', call('LedgerService/GetTrialBalance', '', 'staff:bo')],
    ['who may what', 'npx armature access matrix'],
    ['a shelf', call('InventoryService/BatchGetStock', `'${skus}'`, 'customer:ada')],
  ];
}

/** Paths in the checkout are shown from its root, which is where npx finds the command. */
const fromHere = (path: string) => (path.startsWith(`${repository}/`) ? path.slice(repository.length + 1) : path);

function anotherOrder({ sku }: CatalogueVariant) {
  return {
    customer_id: 'ada',
    lines: [{ sku, quantity: 1 }],
    currency_code: 'EUR',
    payment_method: 'card_ok',
    contact_email: 'ada@example.com',
    shipping_address: {
      recipient: 'Ada Lovelace',
      street: address.street,
      city: address.city,
      postal_code: address.postalCode,
      country_code: address.countryCode,
    },
  };
}

/** Where logs, metrics and mail are. */
export function places(shop: Shop, state: State): string[][] {
  const services = Object.values(shop.mesh.services);
  return [
    ['logs', 'npx armature logs orders'],
    ['state', 'npx armature status'],
    ['mail', fromHere(join(mailDirectory(state), 'new'))],
    ['addresses', fromHere(meshFile(state))],
    ['signing in', `${shop.mesh.tokens.issuer}/.well-known/openid-configuration`],
    ...services.map(({ name, admin }) => [`metrics of ${name}`, `http://${admin}/metrics`]),
  ];
}
