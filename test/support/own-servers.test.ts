import { existsSync } from 'node:fs';
import t from 'tap';
import { isAlive } from '../../scripts/devmesh/processes.ts';
import { BrokerApi } from '../../scripts/devmesh/servers/broker-api.ts';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { ownServers, testServers } from './infra.ts';
import { brokerServer, databaseServer } from './server-faults.ts';

t.setTimeout(120_000);
const undo: (() => unknown)[] = [];
const state = ownServers({ teardown: (step) => undo.push(step) }, 'own');

t.test('private servers of a test file', async (t) => {
  t.throws(
    () => isAlive(databaseServer(state).process),
    { message: /not been started/ },
    'nothing runs before its first use',
  );
  const { servers, started } = await testServers();
  t.ok(started);
  t.throws(() => ownServers(t, 'late'), { message: /before/ });
  for (const [name, server] of [
    ['the database', databaseServer(state)],
    ['the broker', brokerServer(state)],
  ] as const) {
    await t.test(`${name} is killed and restarts on its port, with its data`, async (t) => {
      const before = server.process;
      await server.kill();
      t.notOk(isAlive(before));
      await server.start();
      t.ok(isAlive(server.process));
      t.not(server.process.pid, before.pid);
    });
  }
  await (await connectMysql(servers.mysql.url)).end();
  await new BrokerApi(servers.rabbitmq.management).request('GET', '/whoami');
});

t.test('the servers are removed afterwards', async (t) => {
  const left = [databaseServer(state).process, brokerServer(state).process];
  for (const step of undo) await step();
  t.strictSame(left.filter(isAlive), []);
  t.notOk(existsSync(state.dir));
});
