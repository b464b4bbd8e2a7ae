// Identity reads its keys before it serves: a start without a database waits for it.
import t from 'tap';
import { startService } from '../../test/support/service.ts';
import { openTcpProxy } from '../../test/support/tcp-proxy.ts';

t.setTimeout(60_000);

t.test('a start without the database completes when the database is there', async (t) => {
  const first = await startService(t, 'identity');
  await first.kill();
  const { database, vhost } = first;
  const proxy = await openTcpProxy(t, database!.url);
  // Connections are closed at first, as by a server that is not up yet.
  proxy.refuse(5);
  const again = await startService(t, 'identity', { database, databaseAddress: proxy.address, vhost });
  t.equal(proxy.refused(), 5);
  t.match(again.logs(), /the start waits for the database/);
});
