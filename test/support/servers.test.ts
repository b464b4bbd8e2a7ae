// Checks what the private servers refuse from every client.
import { readFileSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { connect as connectTls, type SecureVersion } from 'node:tls';
import { brokerDialer } from '@armature/runtime/broker-dialer';
import { splitCa, withCa } from '@armature/runtime/credentials';
import { createConnection } from 'mysql2/promise';
import t from 'tap';
import { issueCertificate, saveCertificate } from '../../scripts/devmesh/certificates.ts';
import { connectMysql, mysqlInstance, reloadCertificates } from '../../scripts/devmesh/servers/mysql.ts';
import { rabbitmqInstance } from '../../scripts/devmesh/servers/rabbitmq.ts';
import { connectBroker, createDatabase, createVhost, testServers } from './infra.ts';

const { state, servers } = await testServers();
// Servers given by URL are not set up by the tests.
const ours = mysqlInstance(state) !== undefined && rabbitmqInstance(state) !== undefined;
const skip = ours ? undefined : 'the servers are not private ones';
const { cert: foreignCa } = saveCertificate(state, 'foreign-ca', await issueCertificate({ isCa: true }));
const portOf = (url: string) => Number(new URL(url).port);

async function refusalOf(connecting: Promise<{ end(): unknown } | { close(): unknown }>): Promise<string | null> {
  try {
    const connection = await connecting;
    await ('end' in connection ? connection.end() : connection.close());
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

t.test('the database', { skip }, async (t) => {
  const mine = await createDatabase(t, 'orders');
  const bare = (url: string) => createConnection({ uri: splitCa(url).url });
  const root = (secret: string) => {
    const url = new URL(servers.mysql.url);
    [url.username, url.password] = ['root', secret];
    return connectMysql(url.href);
  };
  const insecure = /insecure transport|Access denied/;
  const rows = [
    { name: 'takes a service by TLS', connect: () => connectMysql(mine.url), refused: null },
    { name: 'refuses a service in the clear', connect: () => bare(mine.url), refused: insecure },
    { name: 'refuses a migrator in the clear', connect: () => bare(mine.migratorUrl), refused: insecure },
    { name: 'refuses the administrator in the clear', connect: () => bare(mine.adminUrl), refused: insecure },
    { name: 'refuses root without a password', connect: () => root(''), refused: /Access denied/ },
    {
      name: 'is refused by a client that trusts another authority',
      connect: () => connectMysql(withCa(mine.url, foreignCa)),
      refused: /self-signed certificate|unable to/,
    },
  ];
  for (const { name, connect, refused } of rows) {
    await t.test(name, async (t) => {
      const refusal = await refusalOf(connect());
      if (refused) t.match(refusal, refused);
      else t.equal(refusal, null);
    });
  }
  await t.test('has no account that needs neither TLS nor a password', async (t) => {
    const administrator = await connectMysql(servers.mysql.url);
    t.teardown(() => administrator.end());
    const [accounts] = await administrator.query(
      `SELECT User, Host FROM mysql.user WHERE ssl_type = ''
       AND NOT (User = 'root' AND Host = 'localhost') AND User NOT IN ('mariadb.sys', 'mysql.sys', 'mysql.session', 'mysql.infoschema')`,
    );
    t.same(accounts, [], 'but root by the socket, with a password, and locked accounts');
    const [version] = (await administrator.query("SHOW SESSION STATUS LIKE 'Ssl_version'"))[0] as { Value: string }[];
    t.match(version?.Value, /^TLSv1\.[23]$/);
  });
  await t.test('shows a renewed certificate without a restart', async (t) => {
    const before = await connectMysql(mine.url);
    t.teardown(() => before.end());
    await reloadCertificates(servers.mysql.url);
    t.equal(await refusalOf(connectMysql(mine.url)), null);
    t.match(await before.query('SELECT 1 AS one'), [[{ one: 1 }]], 'and connections stay');
  });
});

t.test('the broker', { skip }, async (t) => {
  const vhost = await createVhost(t, ['orders', 'payments']);
  const url = vhost.url('orders');
  const guest = new URL(url);
  [guest.username, guest.password] = ['guest', 'guest'];
  const rows = [
    { name: 'takes a service by TLS', url, refused: null },
    { name: 'refuses a service in the clear', url: splitCa(url).url.replace('amqps:', 'amqp:'), refused: /./ },
    { name: 'knows no guest', url: guest.href, refused: /ACCESS[_-]REFUSED/ },
    {
      name: 'is refused by a client that trusts another authority',
      url: withCa(url, foreignCa),
      refused: /self-signed certificate|unable to/,
    },
  ];
  for (const row of rows) {
    await t.test(row.name, async (t) => {
      const refusal = await refusalOf(brokerDialer(row.url)());
      if (row.refused) t.match(refusal, row.refused);
      else t.equal(refusal, null);
    });
  }
  await t.test('serves its management by TLS alone', async (t) => {
    const received = await new Promise<string>((resolve) => {
      const socket = connectSocket(portOf(servers.rabbitmq.management), '127.0.0.1', () =>
        socket.write('GET /api/whoami HTTP/1.1\r\nhost: localhost\r\n\r\n'),
      );
      let heard = '';
      socket.on('data', (bytes) => {
        heard += bytes.toString('latin1');
      });
      socket.on('error', () => undefined);
      socket.on('close', () => resolve(heard));
    });
    t.notMatch(received, /HTTP/);
  });
});

t.test('no server accepts TLS older than 1.2', { skip }, async (t) => {
  const ca = readFileSync(splitCa(servers.rabbitmq.url).caFile!);
  const handshake = (port: number, version: SecureVersion) =>
    new Promise<string>((resolve) => {
      const socket = connectTls(
        // Without the lower security level, the client would refuse before the broker can.
        { port, host: '127.0.0.1', ca, minVersion: version, maxVersion: version, ciphers: 'DEFAULT@SECLEVEL=0' },
        () => {
          resolve(socket.getProtocol() ?? 'none');
          socket.destroy();
        },
      );
      socket.on('error', () => resolve('refused'));
    });
  for (const url of [servers.rabbitmq.url, servers.rabbitmq.management]) {
    const { protocol } = new URL(url);
    t.equal(await handshake(portOf(url), 'TLSv1.3'), 'TLSv1.3', protocol);
    t.equal(await handshake(portOf(url), 'TLSv1.2'), 'TLSv1.2', protocol);
    t.equal(await handshake(portOf(url), 'TLSv1.1'), 'refused', protocol);
    t.equal(await handshake(portOf(url), 'TLSv1'), 'refused', protocol);
  }
});

t.test('a service on the broker', { skip }, async (t) => {
  const vhost = await createVhost(t, ['orders', 'payments']);
  const owner = await connectBroker(vhost.url('payments'));
  t.teardown(() => owner.close());
  const channel = await owner.createChannel();
  const quorum = { durable: true, arguments: { 'x-queue-type': 'quorum' } };
  await channel.assertQueue('payments.own', quorum);
  const rows = [
    { name: "consume another's queue", of: 'basic.consume', does: /ACCESS_REFUSED/ },
    { name: "get from another's queue", of: 'basic.get', does: /ACCESS_REFUSED/ },
    { name: "bind another's queue", of: 'queue.bind', does: /ACCESS_REFUSED/ },
    { name: "empty another's queue", of: 'queue.purge', does: /ACCESS_REFUSED/ },
    { name: "delete another's queue", of: 'queue.delete', does: /ACCESS_REFUSED/ },
    { name: "put something into another's queue, past the exchange", of: 'default exchange', does: /ACCESS_REFUSED/ },
    { name: "publish under another's name", of: 'user-id', does: /PRECONDITION_FAILED.*user_id/ },
    { name: 'delete the exchange of all', of: 'exchange.delete', does: /ACCESS_REFUSED/ },
  ] as const;
  for (const row of rows) {
    await t.test(`cannot ${row.name}`, async (t) => {
      const connection = await connectBroker(vhost.url('orders'));
      const own = await connection.createConfirmChannel();
      const closed = new Promise<string>((resolve) => own.once('error', (error: Error) => resolve(error.message)));
      const acts = {
        'basic.consume': () => own.consume('payments.own', () => undefined),
        'basic.get': () => own.get('payments.own'),
        'queue.bind': () => own.bindQueue('payments.own', 'armature.events', 'orders.#'),
        'queue.purge': () => own.purgeQueue('payments.own'),
        'queue.delete': () => own.deleteQueue('payments.own'),
        'exchange.delete': () => own.deleteExchange('armature.events', { ifUnused: true }),
        'default exchange': async () => {
          own.publish('', 'payments.own', Buffer.from('x'));
          await own.waitForConfirms();
        },
        'user-id': async () => {
          own.publish('armature.events', 'orders.order.placed', Buffer.from('x'), { userId: 'payments' });
          await own.waitForConfirms();
        },
      };
      const outcome = await Promise.race([
        closed,
        acts[row.of]().then(
          () => 'done',
          () => closed,
        ),
      ]);
      t.match(outcome, row.does);
      await connection.close();
    });
  }
});
