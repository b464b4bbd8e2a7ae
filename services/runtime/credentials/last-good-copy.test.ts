import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { createLogger } from '../telemetry/log.ts';
import { lastGoodCopy } from './last-good-copy.ts';

const log = createLogger('test', 'fatal');
const start = Date.parse('2026-01-02T03:04:05.678Z');

function setUp(t: Test) {
  const file = join(t.testdir({}), 'made', 'on', 'demand', 'copy');
  const clock = { ms: start };
  const open = () => lastGoodCopy(file, log, () => clock.ms);
  return { file, clock, open };
}

t.test('gives back what was written, and how old it is', async (t) => {
  const { file, clock, open } = setUp(t);
  const copy = open();
  t.equal(await copy.read(), null, 'nothing at first');
  const bytes = Buffer.from([0, 10, 13, 255, 32]);
  copy.write(bytes, 'version 7');
  await copy.flushed();
  clock.ms += 90_000;
  t.strictSame(await open().read(), { bytes, note: 'version 7', age: 90_000 });
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.equal(statSync(dirname(file)).mode & 0o777, 0o700);
  t.strictSame(readdirSync(dirname(file)), ['copy'], 'and leaves nothing beside it');
});

t.test('of many written at once the newest is kept', async (t) => {
  const { open } = setUp(t);
  const copy = open();
  for (let index = 0; index < 100; index++) copy.write(Buffer.from(String(index)), String(index));
  copy.confirm();
  await copy.flushed();
  t.match(await copy.read(), { note: '99', bytes: Buffer.from('99') });
});

t.test('is confirmed at most every 3 s', async (t) => {
  const { file, clock, open } = setUp(t);
  const copy = open();
  copy.write(Buffer.from('x'), '');
  await copy.flushed();
  for (const row of [
    { after: 2_999, confirmed: false },
    { after: 3_000, confirmed: true },
    { after: 4_000, confirmed: false },
    { after: 9_000, confirmed: true },
    { after: -60_000, confirmed: true, because: 'a clock that was set back leaves no time in the future' },
  ]) {
    clock.ms = start + row.after;
    copy.confirm();
    await copy.flushed();
    t.equal(statSync(file).mtimeMs === clock.ms, row.confirmed, `after ${row.after} ms`);
  }
});

t.test('a confirmation does not make an older content look fresh', async (t) => {
  const { file, clock, open } = setUp(t);
  const copy = open();
  copy.write(Buffer.from('old'), 'old');
  await copy.flushed();
  // A folder at the path of the temporary file; unlike file permissions, it stops root too.
  const inTheWay = `${file}.${process.pid}`;
  mkdirSync(inTheWay);
  clock.ms += 10_000;
  copy.write(Buffer.from('new'), 'new');
  await copy.flushed();
  clock.ms += 10_000;
  copy.confirm();
  await copy.flushed();
  t.match(await copy.read(), { note: 'old', age: 20_000 });
  rmdirSync(inTheWay);
  clock.ms += 10_000;
  copy.confirm();
  await copy.flushed();
  t.match(await copy.read(), { note: 'new', age: 0 });
});

t.test('a folder that cannot be created does not fail the caller', async (t) => {
  const folder = t.testdir({ file: 'in the way' });
  const copy = lastGoodCopy(join(folder, 'file', 'copy'), log);
  copy.write(Buffer.from('x'), '');
  await copy.flushed();
  t.equal(readFileSync(join(folder, 'file'), 'utf8'), 'in the way');
  t.notOk(existsSync(join(folder, 'copy')));
});
