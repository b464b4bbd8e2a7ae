import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { decodeLine, encodeLine } from './line.ts';
import { lockDirectory } from './lock.ts';
import { type Entry, openLog, PAGE_LIMIT } from './log.ts';

type Note = { text: string };

async function reopen(path: string) {
  const seen: Entry<Note>[] = [];
  const log = await openLog<Note>(path, (entry) => seen.push(entry));
  return { log, seen };
}

async function written(path: string, texts: string[]): Promise<Buffer> {
  const { log } = await reopen(path);
  await Promise.all(texts.map((text) => log.append({ text })));
  await log.close();
  return readFile(path);
}

t.test('a line carries its checksum', async (t) => {
  const line = encodeLine({ position: 1, text: 'grüße' });
  t.match(JSON.parse(line.toString()), { position: 1, text: 'grüße', checksum: /^[0-9a-f]{8}$/ });
  t.same(decodeLine(line.subarray(0, -1)), { position: 1, text: 'grüße' });
  for (let at = 0; at < line.length - 1; at++) {
    const changed = Buffer.from(line.subarray(0, -1));
    changed[at]! ^= 1;
    t.equal(decodeLine(changed), undefined, `a flipped bit in byte ${at} is seen`);
  }
});

t.test('appended records are read in order and in pages', async (t) => {
  const path = join(t.testdir(), 'log.jsonl');
  const texts = Array.from({ length: 2500 }, (_, number) => `note ${number} ${'x'.repeat(number)}`);
  await written(path, texts);
  const { log, seen } = await reopen(path);
  t.same(
    seen.map(({ text }) => text),
    texts,
  );
  t.equal(log.last(), 2500);
  t.same(
    (await log.read(0, 2)).map(({ position }) => position),
    [1, 2],
  );
  t.same(
    (await log.read(2499, 10)).map(({ text }) => text),
    [texts[2499]],
  );
  t.same(await log.read(2500, 10), []);
  t.equal((await log.read(0, 5000)).length, PAGE_LIMIT, 'a page is bounded');
  await log.close();
});

t.test('a tail torn at any byte is cut and the log goes on', async (t) => {
  const path = join(t.testdir(), 'log.jsonl');
  const whole = await written(path, ['one', 'two', 'three']);
  const lastStart = whole.lastIndexOf(10, whole.length - 2) + 1;
  for (let length = lastStart; length < whole.length; length++) {
    await writeFile(path, whole.subarray(0, length));
    const { log, seen } = await reopen(path);
    t.same(
      seen.map(({ text }) => text),
      ['one', 'two'],
    );
    t.equal(log.cutBytes, length - lastStart);
    t.equal((await stat(path)).size, lastStart);
    t.match(await log.append({ text: 'again' }), { position: 3 });
    await log.close();
    t.equal((await reopenAndClose(path)).at(-1)?.text, 'again');
  }
});

async function reopenAndClose(path: string) {
  const { log, seen } = await reopen(path);
  await log.close();
  return seen;
}

const blocks = (bytes: number) => Buffer.alloc(bytes, 0);
for (const { name, tail } of [
  { name: 'zeros, as a power failure leaves them', tail: blocks(100_000) },
  { name: 'one long line of noise', tail: Buffer.from('x'.repeat(3_000_000)) },
  {
    name: 'a whole line with a wrong checksum',
    tail: Buffer.from('{"position":3,"text":"x","checksum":"00000000"}\n'),
  },
]) {
  t.test(`a tail is cut: ${name}`, async (t) => {
    const path = join(t.testdir(), 'log.jsonl');
    const whole = await written(path, ['one', 'two']);
    await writeFile(path, Buffer.concat([whole, tail]));
    const { log, seen } = await reopen(path);
    t.equal(seen.length, 2);
    t.equal(log.cutBytes, tail.length);
    await log.close();
    t.same(await readFile(path), whole);
  });
}

t.test('damage before intact records is refused and nothing is touched', async (t) => {
  const path = join(t.testdir(), 'log.jsonl');
  const whole = await written(path, ['one', 'two', 'three']);
  const lines = whole.toString().trimEnd().split('\n');
  for (const { name, damaged } of [
    { name: 'a changed byte', damaged: whole.toString().replace('"two"', '"owt"') },
    { name: 'a line that is gone', damaged: `${lines[0]}\n${lines[2]}\n` },
    { name: 'two lines that changed places', damaged: `${lines[1]}\n${lines[0]}\n${lines[2]}\n` },
    { name: 'noise that hides a line feed', damaged: `${lines[0]}\n${'x'.repeat(40_000)}\n${lines[2]}\n` },
  ]) {
    await writeFile(path, damaged);
    await t.rejects(reopen(path), { message: /is damaged at byte \d+, before intact records/ }, name);
    t.equal((await readFile(path)).toString(), damaged, name);
  }
});

t.test('concurrent appends share a sync', async (t) => {
  const path = join(t.testdir(), 'log.jsonl');
  const { log } = await reopen(path);
  const started = performance.now();
  await log.append({ text: 'alone' });
  const alone_ms = performance.now() - started;
  const together = performance.now();
  await Promise.all(Array.from({ length: 1000 }, (_, number) => log.append({ text: `note ${number}` })));
  const together_ms = performance.now() - together;
  t.comment(`one append ${alone_ms.toFixed(2)} ms, a thousand together ${together_ms.toFixed(2)} ms`);
  await log.close();
  await t.rejects(log.append({ text: 'late' }), { code: 'log_unavailable' });
  t.equal((await reopenAndClose(path)).length, 1001);
});

t.test('a directory is locked by one process', async (t) => {
  const directory = t.testdir();
  const unlock = lockDirectory(directory);
  t.throws(() => lockDirectory(directory), { message: /another process is using it/ });
  unlock();
  lockDirectory(directory)();
});
