import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { knownPermissions } from './permissions.ts';

const root = join(import.meta.dirname, '../..');

t.test('all permissions of the contracts are known, and those of the deployed policy', async (t) => {
  const contracted = new Set(['ops.channelz']);
  for (const file of globSync('proto/armature/*/v1/*.proto', { cwd: root })) {
    const text = readFileSync(join(root, file), 'utf8');
    for (const match of text.matchAll(/^\s*permission: "([^"]+)"/gm)) contracted.add(match[1]!);
  }
  const known = knownPermissions;
  t.strictSame(
    known.map(({ name }) => name),
    [...contracted].sort(),
  );
  const policy = readFileSync(join(root, 'deploy/policy.csv'), 'utf8');
  const granted = [...policy.matchAll(/^p, [^,]+, ([^,]+),/gm)].map((match) => match[1]!);
  t.strictSame(
    granted.filter((name) => !contracted.has(name)),
    [],
  );
  t.match(
    known.find(({ name }) => name === 'orders.place'),
    { methods: ['/armature.orders.v1.OrderService/PlaceOrder'], events: [] },
  );
  const published = known.find(({ name }) => name === 'orders.publish');
  t.ok(published?.events.includes('armature.orders.v1.OrderConfirmed'));
});
