// Runs the demonstration from a checkout under a path that shells do not take without quotes, as a user without a name.
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { findProgram } from '../../scripts/devmesh/servers/programs.ts';
import { inLongTier } from '../support/tier.ts';
import { makeScratch } from '../verification/mutation/scratch.ts';

t.setTimeout(400_000);

/** A user id without a name. */
const stranger = 54_321;

t.test('a checkout under any path and of any user id runs the demonstration', inLongTier, async (t) => {
  // Not below .run, which only its owner may enter.
  const folder = mkdtempSync(join(tmpdir(), 'armature-path-'));
  chmodSync(folder, 0o755);
  const checkout = join(folder, `a b "ü" %20'x #1`);
  makeScratch(checkout);
  const setpriv = process.getuid?.() === 0 ? findProgram(['setpriv']) : undefined;
  if (setpriv) execFileSync('chown', ['--recursive', '--no-dereference', `${stranger}:${stranger}`, checkout]);
  const asStranger = [`--reuid=${stranger}`, `--regid=${stranger}`, '--clear-groups'];
  const { HOME: _home, ARMATURE_RUN_DIR: _dir, ...env } = process.env;
  const armature = (...args: string[]) => {
    const program = join(checkout, 'scripts', 'cli', 'armature');
    const [command, all] = setpriv ? [setpriv, [...asStranger, program, ...args]] : [program, args];
    const { status, stdout, stderr } = spawnSync(command, all, { encoding: 'utf8', env, cwd: '/', timeout: 180_000 });
    return { status, output: stdout + stderr };
  };
  t.teardown(() => {
    armature('down', '--clean');
    rmSync(folder, { recursive: true, force: true });
  });
  t.match(armature('demo'), { status: 0, output: /23 of 23 expectations hold/ });
  t.ok(readdirSync(join(checkout, '.run', 'mail', 'new')).length > 0, 'e-mails are in the checkout');
  t.match(armature('verify'), { status: 0 });
  t.match(armature('down', '--clean'), { status: 0 });
  t.notOk(existsSync(join(checkout, '.run')));
});
