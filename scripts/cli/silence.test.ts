// Commands against services and servers that do not respond.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { testServers } from '../../test/support/infra.ts';
import { startService, token } from '../../test/support/service.ts';
import { identify } from '../devmesh/processes.ts';
import { keepToken } from '../devmesh/sign-in/token-cache.ts';
import { describeMesh, startArmature } from './testbed.ts';

const inventory = 'armature.inventory.v1.InventoryService';
const dir = mkdtempSync(join(tmpdir(), 'armature-silence-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));
const { state } = await testServers();
const service = await startService(t, 'inventory');

/** Accepts TCP, and never finishes TLS nor sends a byte: as a process that a signal has stopped. */
async function silentPeer(): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => sockets.add(socket.on('error', () => undefined)));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

t.test('commands end, and name what does not respond', async (t) => {
  const silent = await silentPeer();
  const ready = { state: 'ready', restarts: 0 };
  const all = Object.fromEntries(
    ['catalog', 'payments', 'orders', 'notifications', 'identity', 'access'].map((name) => [
      name,
      { name, ...ready, grpc: silent },
    ]),
  );
  const stopped = { pid: service.pid!, ...identify(service.pid!) };
  const mesh = { ...all, inventory: { name: 'inventory', ...ready, grpc: service.grpc, ...stopped } };
  const mysql = { url: `mysql://root:x@${silent}/` };
  const rabbitmq = { url: `amqps://${silent}`, management: `https://a:b@${silent}` };
  const acquirer = { name: 'acquirer', ...ready, http: silent };
  const issuer = `https://${silent}`;
  describeMesh(dir, state, mesh, { mysql, rabbitmq, acquirer, tokens: { issuer, jwks: `${issuer}/jwks` } });
  writeFileSync(join(dir, 'servers.json'), JSON.stringify({ mysql, rabbitmq }));
  const issued = { token: await token('olga'), expiresAt: Date.now() + 3_600_000 };
  keepToken(dir, issuer, { kind: 'user', id: 'olga' }, issued);
  service.process.kill('SIGSTOP');
  t.teardown(() => service.process.kill('SIGCONT'));
  // A call has a deadline of its own, which a busy machine may reach before the command reaches its.
  const rows: { args: string[]; names: RegExp; code?: number | readonly number[] }[] = [
    { args: ['call', `${inventory}/BatchGetStock`, '--as', 'nobody'], names: /inventory: process \d+ is stopped by a/ },
    { args: ['call', 'OrderService/GetOrder', '--as', 'nobody'], names: /orders: no response from 127/ },
    { args: ['call', '--timeout', '2s'], names: /orders: no response from 127/, code: 124 },
    { args: ['sagas', 'list', '--timeout', '3s'], names: /orders: no response from 127/, code: 124 },
    { args: ['dead-letters', 'list', '--service', 'inventory', '--timeout', '3s'], names: /inventory: pro/, code: 124 },
    { args: ['token', '--as', 'customer:ada', '--timeout', '3s'], names: /identity: no response from 127/, code: 124 },
    { args: ['verify'], names: /mysql: no response from 127.*acquirer: no response from 127/ },
    { args: ['reconcile', '--timeout', '3s'], names: /mysql: no response from 127/, code: 124 },
    {
      args: ['access', 'explain', 'user:ada', 'orders.read', '--as', 'operator', '--timeout', '3s'],
      names: /access: no/,
      code: [1, 124],
    },
  ];
  await Promise.all(
    rows.map(async ({ args, names, code = 1 }) => {
      const began = performance.now();
      const ended = await startArmature(args, dir).ended;
      const tookMs = performance.now() - began;
      t.ok([code].flat().includes(ended.code ?? -1), `${args.join(' ')} ended with ${ended.code}: ${ended.stderr}`);
      t.match(ended.stderr, names, args.join(' '));
      t.ok(tookMs < 30_000, `${args.join(' ')} took ${tookMs} ms`);
    }),
  );
  const status = await startArmature(['status'], dir).ended;
  t.equal(status.code, 1);
  for (const text of [/^mysql +no response \(/m, /^rabbitmq +no response \(/m, /^inventory +no response \(process/m]) {
    t.match(status.stdout, text);
  }
});
