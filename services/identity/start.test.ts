// Identity reads its keys before it serves: a start without a database waits for it.
import t from 'tap';
import { startService } from '../../test/support/service.ts';
import { openWay } from '../../test/support/way.ts';

t.setTimeout(60_000);

t.test('a start without the database completes when the database is there', async (t) => {
  const first = await startService(t, 'identity');
  await first.kill();
  const { database, vhost } = first;
  const way = await openWay(t, database!.url);
  // Connections are closed at first, as by a server that is not up yet.
  way.refuse(5);
  const again = await startService(t, 'identity', { database, databaseAddress: way.address, vhost });
  t.equal(way.refused(), 5);
  t.match(again.logs(), /the start waits for the database/);
});
