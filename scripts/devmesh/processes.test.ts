import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ended, identify, isAlive, launch, type ProcessIdentity, parentOf, stop } from './processes.ts';

/** A process that lives until it is ended; `stubborn` ones ignore SIGTERM. */
function sleeper(t: Test, stubborn = false): Promise<ProcessIdentity> {
  const program = `${stubborn ? "process.on('SIGTERM', () => {});" : ''} setInterval(() => {}, 1000); console.log('up')`;
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  return new Promise((resolve) => child.stdout.once('data', () => resolve(identify(child.pid!)!)));
}

t.test('a process is known by pid and start time', async (t) => {
  const process_ = await sleeper(t);
  t.ok(isAlive(process_));
  t.notOk(isAlive({ ...process_, started: 'another time' }));
  t.notOk(isAlive(undefined));
});

t.test('a process knows its parent', async (t) => {
  const child = await sleeper(t);
  t.equal(parentOf(child.pid), process.pid);
  await stop(child);
  t.equal(parentOf(child.pid), undefined);
  t.equal(parentOf(0), undefined);
});

for (const { name, pid } of [
  { name: 'zero, which would mean our whole group', pid: 0 },
  { name: 'minus one, which would mean every process', pid: -1 },
  { name: 'init', pid: 1 },
  { name: 'a fraction', pid: 2.5 },
]) {
  t.test(`no process is found under ${name}`, async (t) => t.equal(identify(pid), undefined));
}

t.test('stopping', async (t) => {
  await t.test('leaves a stranger alone who got the pid', async (t) => {
    const stranger = await sleeper(t);
    t.equal(await stop({ pid: stranger.pid, started: 'before the stranger' }), 'absent');
    t.ok(isAlive(stranger));
  });
  await t.test('ends by SIGTERM', async (t) => t.equal(await stop(await sleeper(t)), 'stopped'));
  await t.test('ends by force what ignores SIGTERM', async (t) =>
    t.equal(await stop(await sleeper(t, true), 200), 'killed'),
  );
});

t.test('launching', async (t) => {
  const dir = t.testdir();
  const log = join(dir, 'logs', 'x.log');
  await t.test('writes output to the log', async (t) => {
    const process_ = launch({ command: '/bin/sh', args: ['-c', 'sleep 0.2; echo said'], env: {}, cwd: dir, log });
    t.ok(await ended(process_, 5_000));
    t.equal(readFileSync(log, 'utf8'), 'said\n');
  });
  await t.test('fails for a program that is not there', async (t) =>
    t.throws(() => launch({ command: '/none/such', args: [], env: {}, cwd: dir, log }), {
      message: /could not be started/,
    }),
  );
});
