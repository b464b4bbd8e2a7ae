// The readiness page of a running service while the broker refuses one of its queues.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createVhost } from '../../../test/support/infra.ts';
import { startService } from '../../../test/support/service.ts';

t.setTimeout(120_000);
const queue = 'notifications.orders.order';

t.test('a service is not ready while a queue cannot be consumed, and names the queue', async (t) => {
  const vhost = await createVhost(t, ['orders', 'notifications']);
  // No call is made to it.
  const peers = { orders: '127.0.0.1:1' };
  const { admin } = await startService(t, 'notifications', { vhost, peers });
  const get = async (path: string) => {
    const response = await fetch(`http://${admin}${path}`);
    return { status: response.status, text: await response.text() };
  };
  const until = async (met: (text: string) => boolean) => {
    const deadline = Date.now() + 30_000;
    for (;;) {
      const page = await get('/readyz');
      if (met(page.text)) return page;
      if (Date.now() > deadline) throw new Error(`/readyz shows "${page.text.trim()}" for 30 s`);
      await sleep(50);
    }
  };
  t.strictSame(await until((page) => page === 'ready\n'), { status: 200, text: 'ready\n' });

  const rights = `/permissions/${vhost.name}/notifications`;
  const { configure, write, read } = (await vhost.api.request('GET', rights)) as unknown as Record<string, string>;
  await vhost.api.request('PUT', rights, { configure, write, read: `^(?!${queue}$)(${read})` });
  await vhost.api.request('DELETE', `/queues/${vhost.name}/${queue}`);
  const { status, text } = await until((page) => page.includes('ACCESS_REFUSED'));
  t.equal(status, 503);
  t.match(text, new RegExp(`^waiting for ${queue}: .*403`));
  t.equal((await get('/healthz')).status, 200, 'the process is healthy: a restart would not help');
  t.match((await get('/metrics')).text, new RegExp(`armature_consumer_ready\\{.*queue="${queue}".*\\} 0`));

  await vhost.api.request('PUT', rights, { configure, write, read });
  t.strictSame(await until((page) => page === 'ready\n'), { status: 200, text: 'ready\n' });
  t.match((await get('/metrics')).text, new RegExp(`armature_consumer_ready\\{.*queue="${queue}".*\\} 1`));
});
