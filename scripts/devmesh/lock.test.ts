import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { withLock } from './lock.ts';

const lockModule = JSON.stringify(import.meta.resolve('./lock.ts'));

/** Adds one to the number in a file, slowly, under the lock; in a process of its own. */
const increment = (dir: string) => `
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { withLock } from ${lockModule};
for (let i = 0; i < 5; i++) await withLock('${dir}/lock', async () => {
  const before = Number(readFileSync('${dir}/number', 'utf8'));
  await sleep(2);
  writeFileSync('${dir}/number', String(before + 1));
});`;

function run(program: string): Promise<number | null> {
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], { stdio: 'inherit' });
  return new Promise((resolve) => child.once('exit', resolve));
}

t.test('processes take turns', async (t) => {
  const dir = t.testdir({ number: '0' });
  t.same(await Promise.all([1, 2, 3, 4].map(() => run(increment(dir)))), [0, 0, 0, 0]);
  t.equal(readFileSync(join(dir, 'number'), 'utf8'), '20');
  t.notOk(existsSync(join(dir, 'lock')));
});

t.test('the lock of a dead process is taken over', async (t) => {
  const dir = t.testdir();
  writeFileSync(join(dir, 'lock'), JSON.stringify({ pid: process.pid, started: 'long ago' }));
  t.equal(await withLock(join(dir, 'lock'), () => 'worked', { waitMs: 2_000 }), 'worked');
});

t.test('a holder that stays is named', async (t) => {
  const path = join(t.testdir(), 'lock');
  await withLock(path, () =>
    t.rejects(
      withLock(path, () => undefined, { waitMs: 100 }),
      { message: new RegExp(`held by process ${process.pid}`) },
    ),
  );
});

t.test('a failure lets go of the lock', async (t) => {
  const path = join(t.testdir(), 'lock');
  await t.rejects(
    withLock(path, () => Promise.reject(new Error('on purpose'))),
    { message: 'on purpose' },
  );
  t.equal(await withLock(path, () => 'again', { waitMs: 500 }), 'again');
});
