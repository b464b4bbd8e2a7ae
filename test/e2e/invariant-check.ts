import { setTimeout as sleep } from 'node:timers/promises';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import type { Teardown } from '../support/infra.ts';
import { broken, invariants, verify } from '../verification/invariants/invariants.ts';
import { openShopData, type ShopData } from '../verification/invariants/shop-data.ts';
import type { Shop } from './shop.ts';

/** Opens read access to the schemas of a shop's services and to its acquirer, for invariant checks. */
export async function shopDataOf(t: Teardown, shop: Shop) {
  const connection = await connectMysql(shop.service('payments').database!.adminUrl);
  t.teardown(() => connection.end());
  const stores = Object.values(shop.mesh).flatMap(({ name, database }) => (database ? [[name, database.schema]] : []));
  const acquirerUrl = `http://${shop.service('acquirer').http}`;
  return openShopData({ connection, schemas: Object.fromEntries(stores), acquirerUrl, graceSeconds: 0 });
}

/** Events and e-mails follow an order that has ended. An invariant that is broken after this time stays broken. */
const restWithinMs = 20_000;

/**
 * Returns a function that waits until the shop is idle. It throws unless every invariant holds and there is no dead
 * letter; the error lists what is broken.
 */
export async function openInvariantCheck(t: Teardown, shop: Shop): Promise<() => Promise<void>> {
  const shopData = await shopDataOf(t, shop);
  return async () => {
    const wrong = await wrongAtRest(shopData);
    for (const service of shopData.services) {
      for (const row of await shopData.query(`select id, reason from {${service}}.dead_letter`))
        wrong.push(`a dead letter in ${service}: ${JSON.stringify(row)}`);
    }
    if (!(await shop.staff.ledger.getTrialBalance({})).balanced) wrong.push('the trial balance is not zero');
    if (wrong.length > 0) throw new Error(wrong.join('\n'));
  };
}

/**
 * Invariants that are still broken when no work is in progress any more. Queries broken ones until they hold, then all
 * of them once more.
 */
export async function wrongAtRest(shopData: ShopData): Promise<string[]> {
  const deadline = Date.now() + restWithinMs;
  let checked = invariants;
  for (;;) {
    const verdicts = await verify(shopData, checked);
    const wrong = verdicts.filter(({ found }) => found.length > 0);
    if (wrong.length === 0 ? checked === invariants : Date.now() > deadline) return broken(verdicts);
    checked = wrong.length > 0 ? wrong.map(({ invariant }) => invariant) : invariants;
    if (wrong.length > 0) await sleep(100);
  }
}
