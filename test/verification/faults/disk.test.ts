// The disk of a shop's database is full, and then is not.
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { isAlive } from '../../../scripts/devmesh/processes.ts';
import { openShop } from '../../e2e/shop.ts';
import { ownServers } from '../../support/infra.ts';
import { databaseServer } from '../../support/server-faults.ts';
import { smallDisk, whyNoMounts } from '../../support/small-disk.ts';
import { shopThrough, stockSkus } from './outage.ts';
import { eventually, shopServices } from './shoppers.ts';

t.setTimeout(200_000);
/** More than a new database and a few thousand orders take. */
const diskMib = 1_024;
const lacking = whyNoMounts();

t.test("the database's disk is full", { skip: lacking ?? false }, async (t) => {
  const disk = smallDisk(t, diskMib);
  const state = ownServers(t, 'faults-disk');
  symlinkSync(disk.dir, join(state.dir, 'mysql'));
  const database = databaseServer(state);
  const shop = await openShop(t, {}, shopServices);
  await shopThrough(t, shop, await stockSkus(shop), {
    async begin(shoppers) {
      disk.fill();
      // Rows go on fitting where tables have room; the server refuses (1114) when one has to grow.
      const refused = () => shoppers.answers.filter(({ code }) => code !== 'OK').length;
      const ms = await eventually('orders are refused', 60_000, () => refused() >= 8);
      t.comment(`eight orders were refused within ${ms} ms`);
    },
    lastsMs: 8_000,
    async heal() {
      t.comment(`the server ${isAlive(database.process) ? 'has lived on' : 'has ended itself'}`);
      disk.free();
      // As whoever supervises it would: MariaDB ends itself when it needs space to take a transaction back.
      await database.start();
    },
    // Of a server that has lived on, it can be read all the while.
    readiness: undefined,
  });
});
