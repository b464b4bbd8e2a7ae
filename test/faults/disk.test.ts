// The disk of a shop's database is full, and then is not.
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openShop } from '../e2e/shop.ts';
import { ownServers } from '../support/infra.ts';
import { smallDisk, whyNoMounts } from '../support/small-disk.ts';
import { shopThrough } from './outage.ts';
import { eventually } from './shoppers.ts';

t.setTimeout(200_000);
/** More than a new database and a few thousand orders take. */
const diskMib = 1_024;
const lacking = whyNoMounts();

t.test("the database's disk is full", { skip: lacking ?? false }, async (t) => {
  const disk = smallDisk(t, diskMib);
  const state = ownServers(t, 'faults-disk');
  symlinkSync(disk.dir, join(state.dir, 'mysql'));
  const shop = await openShop(t, {}, ['acquirer', 'catalog', 'inventory', 'notifications', 'orders', 'payments']);
  const skus = await Promise.all(Array.from({ length: 10 }, () => shop.stock(100_000n)));
  await shopThrough(t, shop, skus, {
    async begin(shoppers) {
      disk.fill();
      const refused = () => shoppers.answers.find(({ code }) => code !== 'OK');
      // Rows go on fitting where tables have room; the server refuses (1114) when one has to grow.
      const ms = await eventually('an order is refused', 60_000, () => refused() !== undefined);
      t.comment(`${shoppers.answers.length} answers and ${ms} ms until the first was refused`);
      t.match(refused(), { code: 'UNAVAILABLE', reason: 'DEPENDENCY_UNAVAILABLE' }, 'with a word to come back');
      t.ok(refused()!.retryDelayMs > 0);
    },
    lastsMs: 8_000,
    heal: () => disk.free(),
    // It can be read all the while.
    readiness: 200,
  });
});
