// Shows the end of a log, and follows it when somebody watches: make logs S=orders.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { openState } from '../devmesh/state.ts';

const folder = join(openState().dir, 'logs');
const names = existsSync(folder)
  ? readdirSync(folder)
      .filter((name) => name.endsWith('.log'))
      .map((name) => name.slice(0, -'.log'.length))
  : [];
const asked = process.argv[2] ?? '';
if (names.includes(asked)) {
  const follow = process.stdout.isTTY ? ['-F'] : [];
  const { status } = spawnSync('tail', ['-n', '100', ...follow, join(folder, `${asked}.log`)], { stdio: 'inherit' });
  process.exitCode = status ?? 0;
} else {
  console.error(
    names.length > 0
      ? `make logs S=<name>, where name is one of: ${names.join(' ')}`
      : 'There are no logs yet; make up makes some.',
  );
  process.exitCode = 2;
}
