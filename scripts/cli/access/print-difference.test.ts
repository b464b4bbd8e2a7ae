// Runs the comparison of armature access diff on a small repository of its own, contracts, policy, commits and all.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { repository } from '../../devmesh/state.ts';

const checkout = mkdtempSync(join(tmpdir(), 'armature-access-'));
t.teardown(() => rmSync(checkout, { recursive: true, force: true }));

function run(command: string, ...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: checkout, encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

function git(...args: string[]): void {
  const settings = ['-c', 'user.name=Test', '-c', 'user.email=test@example.org', '-c', 'commit.gpgsign=false'];
  const { status, output } = run('git', ...settings, ...args);
  if (status !== 0) throw new Error(`git ${args.join(' ')}: ${output}`);
}

const diff = (base: string) =>
  run(join(repository, 'scripts', 'cli', 'armature'), 'access', 'diff', base, '--checkout', checkout);

function writePolicy(...rows: string[]): void {
  writeFileSync(join(checkout, 'deploy', 'policy.csv'), `${rows.join('\n')}\n`);
}

function writeContract(...methods: string[]): void {
  const text = `
syntax = "proto3";
package armature.gifts.v1;
import "armature/options/v1/options.proto";
service GiftService { ${methods.join('\n')} }
message Request { string customer_id = 1; }
message Reply {}
`;
  writeFileSync(join(checkout, 'proto', 'armature', 'gifts', 'v1', 'gifts.proto'), text);
}

const rpc = (name: string, permission: string, more = '') =>
  `rpc ${name}(Request) returns (Reply) { option (armature.options.v1.method) = { permission: "${permission}" ${more} }; }`;
const wrap = rpc('Wrap', 'gifts.wrap', 'owner: {field: "customer_id"}');
const rows = [
  '# Gifts.',
  'p, role:customer, gifts.wrap, own',
  'p, role:admin, gifts.list, any',
  'g, user:root, role:admin',
];

for (const folder of ['deploy', 'proto/armature/gifts/v1', 'proto/armature/options/v1']) {
  mkdirSync(join(checkout, folder), { recursive: true });
}
for (const file of ['buf.yaml', 'proto/armature/options/v1/options.proto']) {
  cpSync(join(repository, file), join(checkout, file));
}
writeContract(wrap);
writePolicy(...rows);
git('init', '--quiet', '--initial-branch=main');
git('add', '.');
git('commit', '--quiet', '--message=gifts');

t.test('nothing has changed', async (t) => {
  const { status, output } = diff('main');
  t.equal(status, 0, output);
  t.match(output, /^access diff: no principal may do more than at main: 0 opened/);
});

t.test('what the working tree opens ends with 1', async (t) => {
  writeContract(wrap, rpc('List', 'gifts.list'));
  writePolicy(...rows, 'g, user:eve, role:admin');
  const { status, output } = diff('HEAD');
  t.equal(status, 1, output);
  t.match(output, /^NEW {2}method {2}armature\.gifts\.v1\.GiftService\/List {2}gifts\.list$/m);
  t.match(output, /^OPENED {2}role:admin {2}new method; p, role:admin, gifts\.list, any$/m);
  t.match(output, /^OPENED {2}user:eve {2}new method; \+ g, user:eve, role:admin \(line 5\)$/m);
  t.match(
    output.trimEnd().split('\n').at(-1),
    /^access diff: since HEAD a principal may do more .* 2 opened, .* 1 new/,
  );
});

t.test('what it closes ends with 0', async (t) => {
  git('commit', '--quiet', '--all', '--message=list gifts');
  writePolicy(...rows);
  const { status, output } = diff('HEAD');
  t.equal(status, 0, output);
  t.match(output, /^CLOSED {2}user:eve {2}- g, user:eve, role:admin \(line 5\)\n.*GiftService\/List/m);
});

t.test('where nothing can be compared it ends with 2 and says why', async (t) => {
  t.match(diff('nowhere'), { status: 2, output: 'access diff: there is no commit nowhere\n' });
  writePolicy('p, role:customer, gifts.wrap, some');
  t.match(diff('HEAD'), { status: 2, output: /^access diff: deploy\/policy\.csv:1: scope "some" is not any/ });
  writePolicy(...rows);
  writeContract(wrap, 'rpc');
  t.match(diff('HEAD'), { status: 2, output: /^access diff: buf build failed:\n.*gifts\.proto:\d/ });
});
