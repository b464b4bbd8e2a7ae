// Races of senders for one e-mail, in every interleaving of their statements.
import { randomUUID } from 'node:crypto';
import { newId } from '@armature/runtime';
import { background } from '@armature/runtime/context';
import { openDatabase } from '@armature/runtime/db';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { connectMysql } from '../../../scripts/devmesh/servers/mysql.ts';
import { deliveryStore } from '../../../services/notifications/store.ts';
import { type RunningService, startService } from '../../support/service.ts';
import { exploreCase, judge, type RaceCase } from './case.ts';
import { type BackgroundActor, startRaces } from './race.ts';
import { openSyncPointServer } from './sync-point-server.ts';

const syncPoints = await openSyncPointServer(t);
const env = { ...syncPoints.env, ARMATURE_LOG_LEVEL: 'warn' };
// Deliveries of an earlier release hold their address, so no sender asks orders.
const peers = { orders: '127.0.0.1:1' };
const first = await startService(t, 'notifications', { env, peers });
const second = await startService(t, 'notifications', { env, peers, database: first.database!, vhost: first.vhost! });
t.teardown(() => syncPoints.open());
const connection = await connectMysql(first.database!.adminUrl);
const monitor = await connectMysql(first.database!.adminUrl);
const log = createLogger('test', 'silent');
const db = await openDatabase({ url: first.database!.url, log, registry: new Registry(), poolMax: 2 });
t.teardown(() => Promise.all([connection.end(), monitor.end(), db.close()]));

const sender = (name: string, { pid }: RunningService): BackgroundActor => ({
  ...{ name, root: 'periodic job deliveries', service: 'notifications', pid },
  calls: /^(send mail|job mail left)$/,
  ends: /^job mail left$/,
});
const senders = [sender('first', first), sender('second', second)];
const { race, untilBlocked, release } = startRaces({ syncPoints, monitor, background: senders });

// biome-ignore lint/suspicious/noExplicitAny: rows of any shape, as the driver returns them
async function query(sql: string, params: unknown[] = []): Promise<any[]> {
  const [rows] = await connection.query<RowDataPacket[]>(sql, params);
  return rows;
}

const store = deliveryStore({ maxAttempts: 8, initialBackoffMs: 1_000, deliveryKeptDays: 400 });
const open = background('notifications', log);

/** Queues an e-mail while no sender looks. */
async function queued(): Promise<string> {
  const end = Date.now() + 10_000;
  await Promise.all(senders.map(untilBlocked));
  while ((await query("select 1 from delivery where state = 'QUEUED'")).length > 0) {
    for (const sender of senders) release(sender);
    if (Date.now() > end) throw new Error(`an e-mail is not sent within the limit: ${first.logs()}${second.logs()}`);
    await Promise.all(senders.map(untilBlocked));
  }
  const orderId = newId();
  const data = { orderId, currencyCode: 'EUR', totalMinor: '0', lines: [], reason: '', refundedMinor: '0' };
  const call = open('queue a mail', 10_000);
  const mail = { orderId, customerId: 'ada', data } as const;
  await db.transaction(call, async (tx) => {
    await store.enqueue(tx, { ...mail, template: 'order_cancelled' });
    const recipient = `${randomUUID()}@example.com`;
    await tx.execute('update delivery set recipient = ? where order_id = ?', [recipient, orderId]);
  });
  call.close();
  return orderId;
}

const leaseOrRecord = /^(periodic job deliveries|send mail)$/;
const cases: RaceCase<string>[] = [
  {
    name: 'two senders that look for one mail',
    alike: true,
    points: [
      ['record', /^sql update delivery set state/, /^send mail$/],
      ['rollback', /^rollback$/, leaseOrRecord],
      ['commit', /^commit$/, leaseOrRecord],
    ],
    prepare: queued,
    actors: () => senders,
    async effect(orderId) {
      const [row] = await query('select state, attempts, lease_token from delivery where order_id = ?', [orderId]);
      return `${row.state} at attempt ${row.attempts}, taken ${row.lease_token} times`;
    },
    async wrong() {
      const rows = await query("select delivery_id from delivery where state <> 'SENT' or attempts <> 1");
      return rows.map((row) => `not sent once: ${row.delivery_id}`);
    },
  },
];

t.test('every interleaving', async (t) => {
  for (const one of cases) await t.test(one.name, async (t) => judge(t, await exploreCase(race, one)));
  syncPoints.open();
});
