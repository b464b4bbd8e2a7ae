// Clock faults: the wall clocks of some processes are an hour ahead, of others an hour behind. Leases, expiry and
// limits use the clock of the database or monotonic clocks, so nothing may go wrong.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ordersClient } from '@armature/clients';
import t from 'tap';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import { openInvariantCheck } from '../../e2e/invariant-check.ts';
import { buy, follow, openShop, stateName, wish } from '../../e2e/shop.ts';
import { refusal } from '../../support/refusal.ts';
import { developerCredentials, peersOf, startService, token } from '../../support/service.ts';

t.setTimeout(180_000);
const hourMs = 3_600_000;
const ahead = wrongBy(hourMs);
const behind = wrongBy(-hourMs);
/** Valid from two hours ago until two hours from now, so that every process accepts it. */
const lasting = () => ({ issuedAt: new Date(Date.now() - 2 * hourMs), expiresInSeconds: 4 * 3_600 });

/** Options that load the clock shift before the modules of the service. */
function wrongBy(ms: number): Record<string, string> {
  const file = pathToFileURL(join(import.meta.dirname, 'clock-shift.mjs'));
  return { NODE_OPTIONS: `--max-semi-space-size=4 --import=${file.href}?ms=${ms}` };
}

t.test('an hour ahead and an hour behind', async (t) => {
  const settings = { orders: ahead, inventory: behind, payments: ahead, notifications: behind };
  const shop = await openShop(t, settings, undefined, lasting());
  const assertInvariants = await openInvariantCheck(t, shop);
  const { customer } = shop;
  const sku = await shop.stock(50n);
  const tls = await developerCredentials();
  const ordersAt = (address: string, bearer: string) => {
    const client = ordersClient({ addresses: [address], tls, token: () => bearer });
    t.teardown(() => client.close());
    return client;
  };

  await t.test('the clocks are wrong', async (t) => {
    const { createTime } = await customer.orders.placeOrder(wish(sku));
    const offMs = (createTime?.getTime() ?? 0) - Date.now();
    t.ok(Math.abs(offMs - hourMs) < 60_000, `an order is ${Math.round(offMs / 1000)} s off`);
  });

  await t.test(
    'a token valid for 15 minutes is refused only by the process whose clock is past its expiry',
    async (t) => {
      const bearer = await token('ada', { expiresInSeconds: 900 });
      const orders = ordersAt(shop.service('orders').grpc, bearer);
      await t.rejects(orders.listOrders({ customerId: 'ada' }), refusal({ code: 'UNAUTHENTICATED' }));
    },
  );

  // A second process on the same schema has the right time: for it, rows of the first are dated in the future.
  const first = shop.service('orders');
  const peers = peersOf(shop.mesh);
  const second = await startService(t, 'orders', { database: first.database!, vhost: first.vhost!, peers });
  const right = { orders: ordersAt(second.grpc, await token('ada')) };
  const placed: string[] = [];

  await t.test('orders end as they should in either process', async (t) => {
    for (let round = 0; round < 4; round += 1) {
      for (const who of [customer, right]) {
        const rows = [
          ['card_ok', 'COMPLETED'],
          ['card_declined', 'CANCELLED'],
        ] as const;
        for (const [paymentMethod, state] of rows) {
          const order = await buy(who, wish(sku, { paymentMethod }));
          placed.push(order.orderId);
          if (stateName(order) !== state) t.fail(`${paymentMethod}: ${stateName(order)} ${order.reason}`);
          const { events } = await who.orders.listOrderEvents({ orderId: order.orderId });
          const gaps = events.filter(({ sequence }, index) => sequence !== BigInt(index + 1));
          t.strictSame(gaps, [], 'its events are in order, whatever their timestamps');
        }
      }
    }
  });

  await t.test('a reservation expires by the clock of the database', async (t) => {
    const { orderId } = await customer.orders.placeOrder(wish(sku, { paymentMethod: 'card_slow' }));
    for await (const { event } of customer.orders.watchOrder({ orderId })) if (event?.$case === 'stockReserved') break;
    const { database } = shop.service('inventory');
    const left = await withConnection(database!.adminUrl, async (connection) => {
      const [rows] = await connection.query(
        'select timestampdiff(second, utc_timestamp(6), expires_at) as seconds from reservation where order_id = ?',
        [orderId],
      );
      return (rows as { seconds: number }[])[0]!.seconds;
    });
    t.ok(left > 800 && left <= 900, `${left} s are left of 15 minutes`);
    await follow(customer, orderId);
    t.equal(stateName(await customer.orders.getOrder({ orderId })), 'COMPLETED', 'nothing was taken early');
  });

  await t.test('pages list every order once', async (t) => {
    const seen: string[] = [];
    let pageToken = '';
    do {
      const page = await right.orders.listOrders({ customerId: 'ada', pageSize: 3, pageToken });
      seen.push(...page.orders.map(({ orderId }) => orderId));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    t.equal(new Set(seen).size, seen.length, 'none twice');
    t.strictSame(
      placed.filter((id) => !seen.includes(id)),
      [],
      'no order is missing',
    );
    t.equal(seen.length, placed.length + 2);
  });

  await t.test('every invariant holds', async (t) => {
    await assertInvariants();
    t.pass();
  });
});
