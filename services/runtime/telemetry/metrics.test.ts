import t from 'tap';
import { startAdmin } from './admin.ts';
import { createLogger } from './log.ts';
import { createRegistry, Gauge } from './metrics.ts';

const log = createLogger('test', 'silent');

t.test('a metric that cannot be read does not hide the others', async (t) => {
  const registry = createRegistry('test');
  new Gauge({ name: 'steady', help: 'always there', registers: [registry] }).set(7);
  new Gauge({
    name: 'from_the_database',
    help: 'read when asked',
    registers: [registry],
    async collect() {
      throw new Error('the database is away');
    },
  });
  new Gauge({
    name: 'from_a_database_that_hangs',
    help: 'read when asked',
    registers: [registry],
    collect: () => new Promise<void>(() => {}),
  });
  const admin = await startAdmin({ address: '127.0.0.1:0', registry, readiness: () => ['database'], log });
  t.teardown(() => admin.close());
  const page = await fetch(`http://${admin.address}/metrics`);
  const body = await page.text();
  t.equal(page.status, 200);
  t.match(body, 'steady{service="test"} 7');
  t.notMatch(body, /^from_the_database/m);
  t.notMatch(body, /^from_a_database_that_hangs/m);
  t.match(body, 'armature_metrics_unreadable 2');

  const ready = await fetch(`http://${admin.address}/readyz`);
  t.equal(ready.status, 503);
  t.match(await ready.text(), 'waiting for database');
  t.equal((await fetch(`http://${admin.address}/elsewhere`)).status, 404);
});

t.test('the admin port is for this machine only', async (t) => {
  const registry = createRegistry('test');
  await t.rejects(startAdmin({ address: '0.0.0.0:0', registry, readiness: () => [], log }), { message: /loopback/ });
});
