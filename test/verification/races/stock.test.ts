// Races of requests for the same units, in every interleaving of their statements.
import { randomUUID } from 'node:crypto';
import { inventoryClient } from '@armature/clients';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { connectMysql } from '../../../scripts/devmesh/servers/mysql.ts';
import { metricsOf } from '../../conformance/metrics-page.ts';
import { startService, token, workloadCertificate } from '../../support/service.ts';
import { exploreCase, judge, type RaceCase, responseOf, under } from './case.ts';
import { type BackgroundActor, type Points, startRaces } from './race.ts';
import { openSyncPointServer } from './sync-point-server.ts';

const syncPoints = await openSyncPointServer(t);
const service = await startService(t, 'inventory', {
  env: { ...syncPoints.env, ARMATURE_EXPIRY_SWEEP_MS: '10', ARMATURE_LOG_LEVEL: 'warn' },
});
t.teardown(() => syncPoints.open());
const addresses = [service.grpc];
const tls = await workloadCertificate('orders');
const orders = inventoryClient({ addresses, tls });
const bearer = await token('bo');
const staff = inventoryClient({ addresses, tls: await workloadCertificate('developer'), token: () => bearer });
const database = await connectMysql(service.database!.adminUrl);
const monitor = await connectMysql(service.database!.adminUrl);
t.teardown(async () => {
  orders.close();
  staff.close();
  await Promise.all([database.end(), monitor.end()]);
});
const expiry: BackgroundActor = {
  ...{ name: 'expiry', root: 'periodic job expired reservations', service: 'inventory', pid: service.pid },
  calls: /^$/,
};
const { race } = startRaces({ syncPoints, monitor, background: [expiry] });

const points: Points = [
  ['find due', /^sql select reservation_id from reservation where state/],
  ['read reservation', /^sql select r\.reservation_id/],
  ['take id', /^sql insert into reservation \(/],
  ['read stock', /^sql select sku.* from stock /],
  ['change stock', /^sql update stock/],
  ['rollback', /^rollback$/],
  ['commit', /^commit$/],
];
/** Without steps on the request id, for cases in which every request has its own. */
const without = (...labels: string[]) => points.filter(([label]) => !labels.includes(label));

interface Shelf {
  skus: string[];
  reservationId: string;
  orderId: string;
}

async function query<Row>(sql: string, params: unknown[]): Promise<Row[]> {
  const [rows] = await database.query<RowDataPacket[]>({ sql, values: params, dateStrings: true });
  return rows as Row[];
}

async function shelf(units: readonly bigint[], reserved = 0n): Promise<Shelf> {
  const skus = units.map((_, index) => `R${index}-${randomUUID().slice(0, 13).toUpperCase()}`);
  const [reservationId, orderId] = [randomUUID(), randomUUID()];
  const lines = skus.map((sku, index) => ({ sku, quantity: units[index]! }));
  await staff.receiveStock({ locationId: 'main', lines });
  const hold = (ids: { reservationId: string; orderId: string }) =>
    orders.reserveStock({ ...ids, lines: [{ sku: skus[0]!, quantity: reserved }] });
  if (reserved > 0n) {
    await hold({ reservationId, orderId });
    // Another order reserves as much. Otherwise the constraint of the table would hide a duplicate release.
    await hold({ reservationId: randomUUID(), orderId: randomUUID() });
  }
  return { skus, reservationId, orderId };
}

async function levels({ skus }: Shelf): Promise<string> {
  const rows = await query<{ on_hand: number; reserved: number }>(
    'select on_hand, reserved from stock where sku in (?) order by sku',
    [skus],
  );
  const states = await query<{ state: string }>(
    `select distinct r.state, r.reservation_id from reservation r join reservation_line l using (reservation_id)
     where l.sku in (?)`,
    [skus],
  );
  const told = await query<{ type: string }>(
    `select type from outbox where aggregate_id in (select reservation_id from reservation_line where sku in (?))
     order by aggregate_id, sequence`,
    [skus],
  );
  const shown = rows.map(({ on_hand, reserved }) => `${on_hand} on hand ${reserved} reserved`);
  const events = told.map(({ type }) => type.split('.').at(-1)).sort();
  return [
    ...shown,
    states
      .map(({ state }) => state)
      .sort()
      .join('+'),
    events.join('+'),
  ].join('; ');
}

/** The invariants of stock for the SKUs of one run, and that no reservation stays open. */
async function wrong({ skus }: Shelf): Promise<string[]> {
  const bad = await query<object>(
    `select s.sku, 'reserved' as what from stock s
       left join reservation_line l on l.sku = s.sku and l.location_id = s.location_id
       left join reservation r on r.reservation_id = l.reservation_id
     where s.sku in (?) group by s.sku, s.location_id, s.reserved, s.on_hand
     having s.reserved <> coalesce(sum(if(r.state = 'HELD', l.quantity, 0)), 0) or s.reserved > s.on_hand or s.reserved < 0
     union all
     select s.sku, 'on hand' from stock s
       left join movement m on m.sku = s.sku and m.location_id = s.location_id
     where s.sku in (?) group by s.sku, s.location_id, s.on_hand
     having s.on_hand <> coalesce(sum(if(m.kind = 'SHIP', -abs(m.quantity), m.quantity)), 0)`,
    [skus, skus],
  );
  return bad.map((row) => JSON.stringify(row));
}

const reserver = (name: string, lines: { sku: string; quantity: bigint }[], over: object = {}) => ({
  name,
  send: (traceparent: string) =>
    responseOf(
      orders.reserveStock(
        { requestId: randomUUID(), reservationId: randomUUID(), orderId: randomUUID(), lines, ...over },
        { parent: under(traceparent), timeoutMs: 10_000 },
      ),
    ),
});

const committer = ({ reservationId }: Shelf) => ({
  name: 'commit',
  send: (traceparent: string) =>
    responseOf(orders.commitReservation({ reservationId }, { parent: under(traceparent), timeoutMs: 10_000 })),
});

const releaser = ({ reservationId, orderId }: Shelf) => ({
  name: 'release',
  send: (traceparent: string) =>
    responseOf(
      orders.releaseReservation({ reservationId, orderId }, { parent: under(traceparent), timeoutMs: 10_000 }),
    ),
});

const adjuster = (name: string, { skus }: Shelf, delta: bigint) => ({
  name,
  send: (traceparent: string) =>
    responseOf(
      staff.adjustStock(
        { sku: skus[0]!, locationId: 'main', delta, note: 'counted' },
        { parent: under(traceparent), token: bearer, timeoutMs: 10_000 },
      ),
    ),
});

const lapse = (rows: Shelf) =>
  query('update reservation set expires_at = utc_timestamp(6) - interval 1 second where reservation_id = ?', [
    rows.reservationId,
  ]).then(() => rows);

const judgedBy = { effect: levels, wrong };
/**
 * `runsAgain`: its transactions may deadlock, and are retried. All other transactions lock rows in one order, so every
 * waiting transaction gets its lock.
 */
type StockCase = RaceCase<Shelf> & { runsAgain?: true };
const cases: StockCase[] = [
  {
    name: 'the last unit, two want it',
    alike: true,
    points: without('take id', 'read reservation', 'find due'),
    prepare: () => shelf([1n]),
    actors: ({ skus: [sku] }) => ['a', 'b'].map((name) => reserver(name, [{ sku: sku!, quantity: 1n }])),
    ...judgedBy,
  },
  {
    name: 'the last unit, three want it',
    alike: true,
    points: without('take id', 'read reservation', 'find due'),
    prepare: () => shelf([1n]),
    actors: ({ skus: [sku] }) => ['a', 'b', 'c'].map((name) => reserver(name, [{ sku: sku!, quantity: 1n }])),
    ...judgedBy,
  },
  {
    name: 'two orders of the same two SKUs, each in the order of the other, one SKU on two lines',
    points: without('take id', 'read reservation', 'find due'),
    prepare: () => shelf([3n, 3n]),
    actors: ({ skus: [one, two] }) => [
      reserver('a', [
        { sku: one!, quantity: 1n },
        { sku: two!, quantity: 1n },
        { sku: one!, quantity: 1n },
      ]),
      reserver('b', [
        { sku: two!, quantity: 2n },
        { sku: one!, quantity: 1n },
        { sku: two!, quantity: 1n },
      ]),
    ],
    ...judgedBy,
  },
  {
    // Each of the two lines fits beside the other order, but their sum does not.
    name: 'the last three units, one order wants them on two lines of one SKU',
    points: without('take id', 'read reservation', 'find due'),
    prepare: () => shelf([3n]),
    actors: ({ skus: [sku] }) => [
      reserver('two lines', [
        { sku: sku!, quantity: 2n },
        { sku: sku!, quantity: 1n },
      ]),
      reserver('one line', [{ sku: sku!, quantity: 1n }]),
    ],
    ...judgedBy,
  },
  {
    name: 'two corrections of one shelf',
    points: without('take id', 'read reservation', 'find due'),
    prepare: () => shelf([5n]),
    actors: (rows) => [adjuster('less', rows, -2n), adjuster('more', rows, 3n)],
    ...judgedBy,
  },
  {
    name: 'expiry against commit',
    points: without('take id'),
    prepare: () => shelf([2n], 1n).then(lapse),
    actors: (rows) => [committer(rows), expiry],
    ...judgedBy,
  },
  {
    name: 'release against commit',
    // The insert that finds a duplicate id takes a shared lock on its row, and then wants an exclusive lock.
    runsAgain: true,
    points,
    prepare: () => shelf([2n], 1n),
    actors: (rows) => [committer(rows), releaser(rows)],
    ...judgedBy,
  },
  {
    name: 'release against expiry',
    points,
    prepare: () => shelf([2n], 1n).then(lapse),
    actors: (rows) => [releaser(rows), expiry],
    ...judgedBy,
  },
  {
    name: 'release against the reservation it is to keep from coming about',
    runsAgain: true,
    points: without('find due'),
    prepare: () => shelf([2n]),
    actors: (rows) => {
      const { skus, reservationId, orderId } = rows;
      return [reserver('reserve', [{ sku: skus[0]!, quantity: 1n }], { reservationId, orderId }), releaser(rows)];
    },
    ...judgedBy,
  },
];

/** How often the service has retried a transaction since it was started. */
async function transactionsRunAgain(): Promise<number> {
  const page = await metricsOf(service.admin);
  const named = page.samples.filter(({ name }) => name === 'armature_db_transaction_retries_total');
  return named.reduce((sum, { value }) => sum + value, 0);
}

t.test('every interleaving', async (t) => {
  for (const one of cases) {
    await t.test(one.name, async (t) => {
      const before = await transactionsRunAgain();
      judge(t, await exploreCase(race, one));
      if (!one.runsAgain)
        t.equal(
          await transactionsRunAgain(),
          before,
          `${one.name}: every waiting transaction gets its lock, and no transaction deadlocks`,
        );
    });
  }
  syncPoints.open();
});
