// Identity reads its keys before it serves: a start without a database waits for it.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import t from 'tap';
import { startService } from '../../test/support/service.ts';

t.setTimeout(60_000);

t.test('a start without the database ends when that is there', async (t) => {
  const first = await startService(t, 'identity');
  await first.kill();
  const { database, vhost } = first;
  const url = new URL(database!.url);
  const [port, hostname] = [Number(url.port), url.hostname];
  // Whoever comes is shown out at first, as by a server that is not up yet.
  let refused = 0;
  const door = createServer((client) => {
    if (refused < 5) {
      refused += 1;
      client.destroy();
      return;
    }
    const server = connect(port, hostname);
    const end = () => {
      client.destroy();
      server.destroy();
    };
    client.on('error', end).on('close', end).pipe(server);
    server.on('error', end).on('close', end).pipe(client);
  });
  door.listen(0, '127.0.0.1');
  t.teardown(() => door.close());
  await once(door, 'listening');
  url.host = `127.0.0.1:${(door.address() as AddressInfo).port}`;
  const again = await startService(t, 'identity', { database: { ...database!, url: url.href }, vhost });
  t.equal(refused, 5);
  t.match(again.logs(), /the start waits for the database/);
});
