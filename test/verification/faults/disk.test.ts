// Disk fault: the disk of the database is full, and then has space again.
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
      // Inserts succeed while tables have free space. The server refuses them (1114) when a table has to grow.
      const refused = () => shoppers.results.filter(({ code }) => code !== 'OK').length;
      const ms = await eventually('orders are refused', 60_000, () => refused() >= 8);
      t.comment(`eight orders were refused within ${ms} ms`);
    },
    lastsMs: 8_000,
    async end() {
      t.comment(`the server ${isAlive(database.process) ? 'still runs' : 'has exited'}`);
      disk.free();
      // As a supervisor would: MariaDB exits when it needs disk space to roll a transaction back.
      await database.start();
    },
    // A server that still runs can be read during the outage.
    readiness: undefined,
  });
});
