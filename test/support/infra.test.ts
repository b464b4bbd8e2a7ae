import type { ConfirmChannel } from 'amqplib';
import t from 'tap';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { connectBroker, createDatabase, createVhost } from './infra.ts';

t.test('a database of a test', async (t) => {
  const mine = await createDatabase(t, 'orders');
  const other = await createDatabase(t, 'orders');
  const migrator = await connectMysql(mine.migratorUrl);
  t.teardown(() => migrator.end());
  await migrator.query("CREATE TABLE journal (id INT PRIMARY KEY) COMMENT 'append-only'");
  await migrator.query('CREATE TABLE thing (id INT PRIMARY KEY)');
  await mine.migrated();
  const service = await connectMysql(mine.url);
  t.teardown(() => service.end());
  const rows = [
    { name: 'writes its table', sql: 'INSERT INTO thing VALUES (1)', ok: true },
    { name: 'changes its table', sql: 'UPDATE thing SET id = 2', ok: true },
    { name: 'appends to an append-only table', sql: 'INSERT INTO journal VALUES (1)', ok: true },
    { name: 'cannot change an append-only table', sql: 'UPDATE journal SET id = 2', ok: false },
    { name: 'cannot delete from an append-only table', sql: 'DELETE FROM journal', ok: false },
    { name: 'cannot empty an append-only table', sql: 'TRUNCATE journal', ok: false },
    { name: 'cannot change the schema', sql: 'CREATE TABLE more (id INT)', ok: false },
    { name: "cannot read another's schema", sql: `SELECT * FROM ${other.schema}.thing`, ok: false },
    { name: 'cannot read accounts', sql: 'SELECT * FROM mysql.user', ok: false },
  ];
  for (const { name, sql, ok } of rows) {
    await t.test(name, async (t) => {
      const refused = await service.query(sql).then(
        () => undefined,
        (error: Error) => error.message,
      );
      if (ok) t.equal(refused, undefined);
      else t.match(refused, /denied/);
    });
  }
});

t.test('a virtual host of a test', async (t) => {
  const vhost = await createVhost(t, ['orders', 'payments', 'made_up']);
  const rows = [
    { name: 'publishes its own event', key: 'orders.order.placed', ok: true },
    { name: "cannot publish another's event", key: 'payments.payment.captured', ok: false },
    { name: 'cannot publish a name that only begins like its own', key: 'ordersx.order.placed', ok: false },
  ];
  for (const { name, key, ok } of rows) {
    await t.test(name, async (t) => t.equal(await publishes(vhost.url('orders'), key), ok));
  }
  await t.test("cannot read another's queue", async (t) => {
    t.ok(await declares(vhost.url('payments'), 'payments.ledger'));
    t.notOk(await declares(vhost.url('orders'), 'payments.ledger'));
  });
  await t.test('a service that is not part of the mesh has an account too', async (t) =>
    t.ok(await publishes(vhost.url('made_up'), 'made_up.thing.happened')),
  );
});

async function publishes(url: string, key: string): Promise<boolean> {
  return allowed(url, async (channel) => {
    channel.publish('armature.events', key, Buffer.from('x'));
    await channel.waitForConfirms();
  });
}

async function declares(url: string, queue: string): Promise<boolean> {
  return allowed(url, (channel) =>
    channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } }),
  );
}

/** Whether the broker allows the operation. A refusal closes the channel; any other failure is thrown. */
async function allowed(url: string, work: (channel: ConfirmChannel) => Promise<unknown>): Promise<boolean> {
  const connection = await connectBroker(url);
  try {
    const channel = await connection.createConfirmChannel();
    const closed = new Promise<Error>((resolve) => channel.once('error', resolve));
    const outcome = await Promise.race([
      work(channel).then(
        () => undefined,
        (error: Error) => error,
      ),
      closed,
    ]);
    if (!outcome) return true;
    const refusal = outcome.message.includes('ACCESS_REFUSED') ? outcome : await closed;
    if (!refusal.message.includes('ACCESS_REFUSED')) throw refusal;
    return false;
  } finally {
    await connection.close();
  }
}
