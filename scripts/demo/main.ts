// Places orders in the running mesh, shows what becomes of each, and checks that it is what should.
import type { Order } from '@armature/proto/orders/v1/orders.ts';
import { mailDirectory } from '../devmesh/environment.ts';
import { runningMesh } from '../devmesh/running-mesh.ts';
import { openState } from '../devmesh/state.ts';
import { openAcquirerLog } from './acquirer-log.ts';
import { catalogue, variantsOf } from './catalogue.ts';
import { places, showTrialBalance, suggestions } from './epilogue.ts';
import { type Expectations, expectations } from './expectations.ts';
import { loadCatalogue } from './load.ts';
import { type Screen, terminal } from './screen.ts';
import { openShop, type Shop } from './shop.ts';
import { type Stage, stories } from './stories.ts';

const limitMs = 60_000;
/** More than all stories of one run take of one SKU. */
const plentyUnits = 20n;

/** Runs the demonstration. The exit code is 1 where something is not as expected. */
export async function runDemo(): Promise<void> {
  const shop = openShop(runningMesh(), AbortSignal.timeout(limitMs));
  const screen = terminal();
  const expect = expectations(screen);
  try {
    await perform(shop, screen, expect);
  } catch (error) {
    if (!shop.signal.aborted) throw error;
    expect.gaveUp(`the demo did not end within ${limitMs / 1000} s`, error);
  } finally {
    shop.close();
  }
  verdict(screen, expect);
}

async function perform(shop: Shop, screen: Screen, expect: Expectations): Promise<void> {
  const state = openState();
  const categories = catalogue();
  const variants = variantsOf(categories);
  screen.heading('The catalogue');
  const start = performance.now();
  const { products } = await loadCatalogue(shop, categories);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  screen.line(
    `${variants.length.toLocaleString('en')} SKUs in ${categories.length} categories, prices in EUR and USD,`,
  );
  screen.line(`stock at 2 locations: ${products > 0 ? 'loaded' : 'there already'} (${seconds} s)`);

  const { acquirer: acquirerService } = shop.mesh;
  if (!acquirerService?.http) throw new Error('the acquirer is not running; armature status tells more');
  const plenty = await wellStocked(shop, variants);
  const stage: Stage = {
    shop,
    screen,
    expect,
    acquirer: await openAcquirerLog(acquirerService.http, shop.signal),
    mailFolder: mailDirectory(state),
    plenty: (position) => plenty[position]!,
    soldOut: variants.find(({ soldOut }) => soldOut)!,
  };
  let first: Order | undefined;
  for (const [index, { title, customer, tell }] of stories.entries()) {
    screen.heading(`${index + 1}  ${title}`);
    try {
      const order = await tell(stage, customer);
      first ??= order;
    } catch (error) {
      expect.gaveUp(title, error);
      if (shop.signal.aborted) throw error;
    }
  }
  screen.heading('The books');
  await showTrialBalance(shop, screen, expect);
  if (!first) return;
  screen.heading('To go on with');
  for (const [what, line] of suggestions(state, first, plenty[0]!)) screen.command(what, line);
  screen.heading('Where to look');
  screen.table(places(shop, state));
}

/** Six variants of different products that have units enough, whatever was sold here before. */
async function wellStocked(shop: Shop, variants: ReturnType<typeof variantsOf>): Promise<typeof variants> {
  // Far apart, so that the orders of one run are of different things.
  const sample = variants.filter((_, index) => index % 37 === 0);
  const { levels } = await shop.inventory.batchGetStock({ skus: sample.map(({ sku }) => sku) }, await shop.as('bo'));
  const available = Map.groupBy(levels, ({ sku }) => sku);
  const enough = sample.filter(({ sku }) => {
    const here = available.get(sku) ?? [];
    return here.reduce((sum, level) => sum + level.available, 0n) >= plentyUnits;
  });
  if (enough.length < 6) throw new Error('too little is left on the shelves; armature down --clean starts anew');
  return enough.slice(0, 6);
}

function verdict(screen: Screen, expect: Expectations): void {
  const broken = expect.broken();
  screen.heading(broken.length === 0 ? 'All as expected' : 'NOT AS EXPECTED');
  if (broken.length === 0) screen.passed(`${expect.count()} of ${expect.count()} expectations hold`);
  for (const one of broken) screen.failed(one);
  if (broken.length > 0) process.exitCode = 1;
}
