// Identity reads its keys before it serves: a start without a database waits for it.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { ownServers } from '../../test/support/infra.ts';
import { databaseServer } from '../../test/support/server-faults.ts';
import { startService } from '../../test/support/service.ts';

t.setTimeout(120_000);

t.test('a start without the database ends when that is there', async (t) => {
  const database = databaseServer(ownServers(t, 'identity-start'));
  const first = await startService(t, 'identity');
  await first.kill();
  await database.kill();
  const again = startService(t, 'identity', { database: first.database!, vhost: first.vhost! });
  // Long enough to get to the keys; a start that gave up there rejects, whenever that was.
  await Promise.race([again, sleep(4_000)]);
  await database.start();
  t.ok((await again).grpc);
  t.match((await again).logs(), /the start waits for the database/);
});
