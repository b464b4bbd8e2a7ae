import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { repository } from '../../devmesh/state.ts';
import { folded, matrixOf, renderMatrices } from './matrix.ts';
import { effectiveAccessOn, event, method } from './testbed.ts';

const operations = [
  method('Buy', 'shop.buy', 'customer_id'),
  { ...method('Refund', 'shop.refund'), audit: true },
  event('Bought', 'shop.publish'),
];
const effective = effectiveAccessOn(
  'p, role:customer, shop.buy, own',
  'p, role:admin, shop.refund, any',
  'p, role:gateway, shop.buy, on-behalf',
  'p, service:shop, shop.publish, any',
  'g, service:edge, role:gateway',
  'g, role:chief, role:admin',
  'g, user:root, role:chief',
);

t.test('a row for each operation, a column for each principal but users', async (t) => {
  const { principals, rows } = matrixOf(operations, effective, 'method');
  t.same(principals, ['role:customer', 'role:admin', 'role:chief', 'role:gateway', 'service:shop', 'service:edge']);
  t.same(
    rows.map(({ access }) => access.join(' ')),
    ['own own own on-behalf deny on-behalf', 'deny any any deny deny deny'],
  );
});

t.test('columns that say nothing new are left out, and named', async (t) => {
  const { principals, idle, alike } = folded(matrixOf(operations, effective, 'method'), effective);
  t.same(principals, ['role:customer', 'role:admin', 'role:gateway']);
  t.same(idle, ['service:shop']);
  t.same(
    [...alike],
    [
      ['role:admin', ['role:chief']],
      ['role:gateway', ['service:edge']],
    ],
  );
});

t.test('as text', async (t) => {
  const lines = renderMatrices(operations, effective, 'text');
  const from = lines.findIndex((line) => line.startsWith('2 methods'));
  t.same(lines.slice(from), [
    '2 methods, and whom they may be called by',
    '',
    'method (* every decision is recorded)  permission   owner        role:customer  role:admin  role:gateway',
    'shop.v1.Shop',
    '  Buy                                  shop.buy     customer_id  own            own         on-behalf',
    '  Refund *                             shop.refund  -            -              any         -',
    '',
    'As role:admin: role:chief.',
    'As role:gateway: service:edge.',
    'Nothing: service:shop.',
    '',
    '1 event, and whom it may be published by',
    '',
    'event     permission    service:shop',
    'shop.v1',
    '  Bought  shop.publish  any',
    '',
    'Nothing: role:customer, role:admin, role:chief, role:gateway, service:edge.',
  ]);
});

t.test('as CSV, whole and without prose', async (t) => {
  t.same(renderMatrices(operations, effective, 'csv'), [
    'kind,name,permission,owner,audit,role:customer,role:admin,role:chief,role:gateway,service:shop,service:edge',
    'method,shop.v1.Shop/Buy,shop.buy,customer_id,denials,own,own,own,on-behalf,deny,on-behalf',
    'method,shop.v1.Shop/Refund,shop.refund,,every decision,deny,any,any,deny,deny,deny',
    'event,shop.v1.Bought,shop.publish,,denials,deny,deny,deny,deny,any,deny',
  ]);
});

t.test('as Markdown', async (t) => {
  const lines = renderMatrices(operations, effective, 'md');
  t.ok(lines.includes('## 2 methods, and whom they may be called by'));
  t.ok(lines.includes('| shop.v1.Shop/Buy | shop.buy | customer_id | own | own | on-behalf |'));
  t.ok(lines.includes('| --- | --- | --- | --- | --- | --- |'));
});

t.test('the program', async (t) => {
  const rows: { name: string; args: string[]; status: number; says: RegExp }[] = [
    {
      name: 'the deployed policy',
      args: [],
      status: 0,
      says: /^ {2}PlaceOrder +orders\.place +customer_id +own +own +own /m,
    },
    { name: 'as CSV', args: ['--format', 'csv'], status: 0, says: /^kind,name,permission,owner,audit,role:customer,/ },
    { name: 'another format', args: ['--format', 'cvs'], status: 2, says: /'cvs' is invalid.*; did you mean csv\?/ },
    {
      name: 'a policy that is not there',
      args: ['--file', 'gone.csv'],
      status: 1,
      says: /--file gone\.csv: the policy cannot/,
    },
    { name: 'a policy that is none', args: ['--file', 'README.md'], status: 1, says: /README\.md:\d+: begins with/ },
  ];
  for (const { name, args, status, says } of rows) {
    const main = join(repository, 'scripts', 'cli', 'main.ts');
    const run = spawnSync(process.execPath, [main, 'access', 'matrix', ...args], { cwd: repository, encoding: 'utf8' });
    t.match({ status: run.status, output: run.stdout + run.stderr }, { status, output: says }, name);
  }
});
