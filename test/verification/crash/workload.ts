import { setTimeout as sleep } from 'node:timers/promises';
import { inventoryClient } from '@armature/clients';
import type { Shop } from '../../e2e/shop.ts';
import type { Teardown } from '../../support/infra.ts';
import type { Random } from '../../support/random.ts';
import { workloadCertificate } from '../../support/service.ts';
import { type Customer, openCustomer } from './customer.ts';
import type { CrashMesh } from './mesh.ts';
import { type MovingPrice, openMovingPrice } from './moving-price.ts';
import { openOutsider } from './outsider.ts';
import { openPlacing } from './placing.ts';
import { type OrderNote, openResponseLog, type ResponseLog, type Story } from './responses.ts';
import { type Product, plots, weights } from './stories.ts';

export interface Workload {
  readonly responses: ResponseLog;
  /** Places one order of a kind, and does what its customer does afterwards. */
  tell(story: Story, until: AbortSignal): Promise<void>;
  /**
   * Places orders with this number of concurrent customers until `until` aborts. Resolves when every request has its
   * response.
   */
  run(customers: number, until: AbortSignal): Promise<void>;
}

/** Addresses of the services and of the acquirer. */
export type Reach = Pick<CrashMesh, 'grpcOf' | 'acquirerUrl'>;

const plentyOfUnits = 1_000_000n;
const hotUnits = 40n;

/** A shop with its customers and staff. */
type Staffed = Pick<Shop, 'as' | 'customer' | 'staff' | 'stock'>;

/** Puts the products of all stories on sale. */
export async function openWorkload(t: Teardown, shop: Staffed, mesh: Reach, random: Random): Promise<Workload> {
  const { skus, moving, responses } = await stockProducts(shop);
  const asOrders = inventoryClient({
    addresses: [mesh.grpcOf('inventory')],
    tls: await workloadCertificate('orders'),
  });
  t.teardown(() => asOrders.close());
  const customer = openCustomer({
    ...{ customer: shop.customer, admin: await shop.as('admin'), asOrders, responses, random },
    ...{ outsider: openOutsider(mesh.acquirerUrl), plenty: skus.plenty[0]! },
  });
  const { linesOf, place, placeStory } = openPlacing({ shop, skus, moving, responses, customer, random });

  async function tell(story: Story, until: AbortSignal): Promise<void> {
    const lines = linesOf(story);
    const { request, placed } = await placeStory(story, lines);
    const note = responses.accepted({ requestId: request.requestId!, story, lines, placed });
    // A customer whose connection broke sends the request again, and once more much later.
    if (random.next() < 0.2) responses.repeated(note, await place(request));
    await afterwards(customer, note, until);
    if (random.next() < 0.1) responses.repeated(note, await place(request));
  }

  return {
    responses,
    tell,
    async run(customers, until) {
      const one = async () => {
        while (!until.aborted) {
          await tell(random.weighted(weights), until).catch((error: unknown) =>
            responses.problem(`a request failed: ${String(error)}`),
          );
          await sleep(random.between(0, 100));
        }
      };
      await Promise.all(Array.from({ length: customers }, one));
      await customer.allDone();
    },
  };
}

async function afterwards(customer: Customer, note: OrderNote, until: AbortSignal): Promise<void> {
  const plot = plots[note.story];
  if (plot.afterwards) await plot.afterwards(customer, note, until);
  else if (customer.random.next() < 0.3) await customer.ended(note);
}

async function stockProducts(
  shop: Pick<Shop, 'stock' | 'staff'>,
): Promise<{ skus: Readonly<Record<Product, readonly string[]>>; moving: MovingPrice; responses: ResponseLog }> {
  const plenty = [];
  while (plenty.length < 3) plenty.push({ sku: await shop.stock(plentyOfUnits), units: plentyOfUnits });
  const hot = { sku: await shop.stock(hotUnits), units: hotUnits };
  const free = { sku: await shop.stock(plentyOfUnits, { EUR: 0n }), units: plentyOfUnits };
  const moving = await openMovingPrice(shop, plentyOfUnits);
  return {
    skus: { plenty: plenty.map(({ sku }) => sku), hot: [hot.sku], free: [free.sku], moving: [moving.sku] },
    moving,
    responses: openResponseLog([...plenty, hot, free, moving]),
  };
}
