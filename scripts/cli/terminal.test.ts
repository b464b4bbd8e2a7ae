import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { parseDuration } from './deadline.ts';
import { paint } from './terminal.ts';

const esc = '\u001b';

t.test('colour only on a terminal, and never with NO_COLOR', async (t) => {
  const terminal = { isTTY: true };
  t.equal(paint('green', 'ready', { stream: terminal, env: {} }), `${esc}[32mready${esc}[39m`);
  const rows: { name: string; stream: { isTTY?: boolean }; env: NodeJS.ProcessEnv }[] = [
    { name: 'no terminal', stream: {}, env: {} },
    { name: 'no terminal, although colour is forced', stream: {}, env: { FORCE_COLOR: '1' } },
    { name: 'NO_COLOR', stream: terminal, env: { NO_COLOR: '1' } },
    { name: 'NO_COLOR, although colour is forced', stream: terminal, env: { NO_COLOR: '1', FORCE_COLOR: '3' } },
    { name: 'a terminal that knows no colour', stream: terminal, env: { TERM: 'dumb' } },
  ];
  for (const { name, stream, env } of rows) t.equal(paint('green', 'ready', { stream, env }), 'ready', name);
});

t.test('a wait is named after two seconds on a terminal, and the line disappears', async (t) => {
  const module = join(import.meta.dirname, 'terminal.ts');
  const program = (terminal: boolean) => `
    process.stderr.isTTY = ${terminal};
    const { withNotice } = await import(${JSON.stringify(module)});
    await withNotice('nothing', async () => undefined);
    await withNotice('orders', () => new Promise((resolve) => setTimeout(resolve, 2_800)));`;
  const run = (terminal: boolean) =>
    spawnSync(process.execPath, ['--input-type=module', '-e', program(terminal)], {
      env: { ...process.env, TERM: 'xterm' },
      encoding: 'utf8',
    }).stderr;
  const shown = run(true);
  t.match(shown, /waiting for orders \(2 s\)/);
  t.notMatch(shown, /waiting for nothing/);
  t.ok(shown.endsWith(`\r${esc}[K`), 'and is cleared at the end');
  t.equal(run(false), '', 'elsewhere standard error holds problems only');
});

t.test('durations', async (t) => {
  for (const [text, ms] of [
    ['500ms', 500],
    ['30s', 30_000],
    ['30', 30_000],
    ['5m', 300_000],
    ['2h', 7_200_000],
  ] as const) {
    t.equal(parseDuration(text), ms, text);
  }
  for (const text of ['', '0', '0s', '-1s', '1d', '1.5h', 's', '600h', '1h30m']) {
    t.throws(() => parseDuration(text), { message: /It is a duration such as/ }, `not "${text}"`);
  }
});
