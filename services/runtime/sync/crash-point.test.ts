import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { armCrashPoints } from './crash-point.ts';

t.test('crash points', async (t) => {
  const module = new URL('crash-point.ts', import.meta.url).href;
  const rows = [
    { name: 'unarmed', spec: '', passes: 3, reached: 3, signal: null },
    { name: 'armed by name', spec: 'relay.published', passes: 3, reached: 0, signal: 'SIGKILL' },
    { name: 'armed at the third pass', spec: 'other:1, relay.published:3', passes: 5, reached: 2, signal: 'SIGKILL' },
    { name: 'armed elsewhere', spec: 'other', passes: 2, reached: 2, signal: null },
  ];
  for (const { name, spec, passes, reached, signal } of rows) {
    await t.test(name, async (t) => {
      const program = `import { armCrashPoints, crashPoint } from ${JSON.stringify(module)};
        import { writeSync } from 'node:fs';
        armCrashPoints(${JSON.stringify(spec)});
        for (let i = 0; i < ${passes}; i++) { crashPoint('relay.published'); writeSync(1, 'x'); }`;
      const ended = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
      t.equal(ended.signal, signal);
      t.equal(ended.stdout, 'x'.repeat(reached));
      t.equal(ended.stderr, signal ? 'killed at crash point relay.published\n' : '');
    });
  }
  await t.test('stopped at the second pass, and going on when told to', async (t) => {
    const program = `import { armCrashPoints, crashPoint } from ${JSON.stringify(module)};
      import { writeSync } from 'node:fs';
      armCrashPoints('relay.published:2=stop');
      for (let i = 0; i < 3; i++) { crashPoint('relay.published'); writeSync(1, 'x'); }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let written = '';
    child.stdout.on('data', (text) => {
      written += text;
    });
    const [said] = await once(child.stderr, 'data');
    t.equal(String(said), 'stopped at crash point relay.published\n');
    while (!/^State:\s+T/m.test(readFileSync(`/proc/${child.pid}/status`, 'utf8'))) await sleep(10);
    t.equal(written, 'x');
    child.kill('SIGCONT');
    t.strictSame(await once(child, 'close'), [0, null]);
    t.equal(written, 'xxx');
  });
  for (const [work, spec] of [
    ['/armature.orders.v1.OrderService/PlaceOrder', 'place-order.committed'],
    ['periodic job expired reservations', 'periodic-job-expired-reservations.committed'],
  ]) {
    const program = `import { armCrashPoints, crashPointOf } from ${JSON.stringify(module)};
      armCrashPoints(${JSON.stringify(spec)});
      crashPointOf(${JSON.stringify(work)}, 'before-commit');
      crashPointOf(${JSON.stringify(work)}, 'committed');`;
    const ended = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
    t.match(ended, { signal: 'SIGKILL', stderr: `killed at crash point ${spec}\n` }, `around the commit of ${work}`);
  }
  for (const spec of ['relay.published:0', 'Relay', 'a:b', 'a b', 'a=go']) {
    t.throws(() => armCrashPoints(spec), { message: /is not of the form/ }, `refuses ${spec}`);
  }
});
