// Runs armature access explain and apply against a real access service.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { testServers } from '../../../test/support/infra.ts';
import { startService, token } from '../../../test/support/service.ts';
import { tokenIssuer } from '../../../test/support/token.ts';
import { certificateFiles } from '../../devmesh/certificates.ts';
import { policyFile } from '../../devmesh/environment.ts';
import { keepToken } from '../../devmesh/sign-in/token-cache.ts';
import { type Ended, startCommandHost } from '../testbed.ts';

/** Asks until the condition holds, for 30 s at most. */
async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within 30 s`);
    await sleep(50);
  }
}

const dir = mkdtempSync(join(tmpdir(), 'armature-apply-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));

const { state } = await testServers();
const access = await startService(t, 'access');
const mesh = {
  services: { access: { name: 'access', state: 'ready', restarts: 0, grpc: access.grpc } },
  certificates: { developer: certificateFiles(state, 'developer'), ca: certificateFiles(state, 'ca').cert },
  tokens: { issuer: tokenIssuer, jwks: `${tokenIssuer}/jwks` },
  policy: policyFile,
};
writeFileSync(join(dir, 'mesh.json'), JSON.stringify(mesh));
for (const id of ['admin', 'ada']) {
  const issued = { token: await token(id), expiresAt: Date.now() + 3_600_000 };
  keepToken(dir, tokenIssuer, { kind: 'user', id }, issued);
}

const changed = join(dir, 'changed.csv');
writeFileSync(
  changed,
  `${readFileSync(policyFile, 'utf8')}\np, role:auditor, ledger.read, any\ng, client:reports, role:auditor\n`,
);

const host = startCommandHost(t);
const run = (...args: string[]): Promise<Ended> => host.run(['access', ...args], { ARMATURE_RUN_DIR: dir });

const ledger = ['explain', 'client:reports', 'LedgerService/GetTrialBalance'];

t.test('the policy that access began with is in force', async (t) => {
  const { code, stdout, stderr } = await run('apply');
  t.equal(code, 0, stderr);
  t.match(stdout, /^The policy in force has all that can be applied\.$/m);
});

t.test('explains a denial, with exit code 1', async (t) => {
  const { code, stdout } = await run(...ledger);
  t.equal(code, 1);
  t.match(stdout, /^ledger\.read for client:reports through workload:developer: denied\n {2}\S/);
  t.match(stdout, /by version 1 of the policy/);
});

t.test('a dry run says what would be done, and does nothing', async (t) => {
  const { code, stdout } = await run('apply', '--file', changed);
  t.equal(code, 1);
  t.match(stdout, /^put role +role:auditor +\+ ledger\.read any\ngrant +client:reports +\+ role:auditor$/m);
  t.match(stdout, /nothing was done; --apply makes these changes/);
  t.match(await run(...ledger), { code: 1 });
});

t.test('who may not administer is refused', async (t) => {
  const { code, stderr } = await run('apply', '--file', changed, '--apply', '--as', 'customer:ada');
  t.equal(code, 1);
  t.match(stderr, /^PERMISSION_DENIED: /m);
});

t.test('a file gives no reserved permission', async (t) => {
  const operators = join(dir, 'operators.csv');
  writeFileSync(operators, `${readFileSync(policyFile, 'utf8')}\ng, user:admin, role:operator\n`);
  const { code, stderr } = await run('apply', '--file', operators, '--apply');
  t.equal(code, 1);
  t.match(stderr, /^PERMISSION_DENIED: reserved, .*ops\.sagas\.compensate/m);
});

t.test('applies the difference, each change as a version of its own', async (t) => {
  const { code, stdout, stderr } = await run('apply', '--file', changed, '--apply');
  t.equal(code, 0, stderr);
  t.match(stderr, /ok put role role:auditor .*\(version 2\)\n {2}ok grant client:reports .*\(version 3\)/);
  t.match(stdout, /2 changes were made/);
  const explained = await run(...ledger, '--json');
  t.equal(explained.code, 0, explained.stdout);
  t.match(JSON.parse(explained.stdout), { allowed: true, scope: 'SCOPE_ANY', policyVersion: '3' });
});

t.test('keeps what the file does not name, and removes it when asked', async (t) => {
  const kept = await run('apply');
  t.equal(kept.code, 0, kept.stderr);
  t.match(kept.stdout, /kept, although .*: g, client:reports, role:auditor\n/);
  const pruned = await run('apply', '--prune', '--apply', '--json');
  t.equal(pruned.code, 0, pruned.stderr);
  t.match(JSON.parse(pruned.stdout), {
    applied: true,
    changes: [{ kind: 'revoke' }, { kind: 'delete-role' }],
    kept: [],
  });
  t.match(await run(...ledger), { code: 1 });
});

t.test('a permission that does not exist is pointed out', async (t) => {
  const { code, stderr } = await run('explain', 'user:ada', 'orders.cancl');
  t.equal(code, 2);
  t.match(stderr, /^orders\.cancl is no permission, method or event; did you mean orders\.cancel\?/);
});

t.test(
  'a service that the policy in force does not know says so, and is ready once its rows are applied',
  async (t) => {
    const rows = readFileSync(policyFile, 'utf8').split('\n');
    const without = join(dir, 'without-catalog.csv');
    writeFileSync(without, rows.filter((row) => !/^[pg], service:catalog,/.test(row)).join('\n'));
    const pruned = await run('apply', '--file', without, '--prune', '--apply');
    t.equal(pruned.code, 0, pruned.stderr);
    const catalog = await startService(t, 'catalog', {
      env: {
        ARMATURE_POLICY_FILE: undefined,
        ARMATURE_PEER_ACCESS: access.grpc,
        ARMATURE_COPY_DIR: t.testdir({}),
      },
    });
    const readiness = async () => (await fetch(`http://${catalog.admin}/readyz`)).text();
    await eventually('it says what it waits for', async () =>
      /^waiting for policy: the policy in force has no rows for service:catalog; armature access apply adds them/.test(
        await readiness(),
      ),
    );
    const shown = await run('apply');
    t.equal(shown.code, 1);
    t.match(shown.stdout, /^put role +service:catalog +\+ catalog\.publish any$/m);
    t.match(shown.stdout, /^grant +service:catalog +\+ role:service$/m);
    const applied = await run('apply', '--apply');
    t.equal(applied.code, 0, applied.stderr);
    await eventually('it is ready', async () => (await readiness()) === 'ready\n');
  },
);
