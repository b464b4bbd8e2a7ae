import t from 'tap';
import { writeTable } from './table.ts';

const id = '01a20ed2-0740-72b8-b3da-7dec09e6953b';
const rows = [
  ['ID', 'STATE', 'REASON'],
  [id, 'stuck', 'the acquirer did not respond in time'],
  ['x', 'running', ''],
];

t.test('a table that fits is as wide as its cells', async (t) => {
  t.same(writeTable(rows, 'text', 100), [
    `ID${' '.repeat(36)}STATE    REASON`,
    `${id}  stuck    the acquirer did not respond in time`,
    `x${' '.repeat(37)}running`,
  ]);
  t.same(writeTable(rows, 'text'), writeTable(rows, 'text', 100), 'as it is where there is no terminal');
});

t.test('cells are wrapped at spaces, and no line is wider than the terminal', async (t) => {
  const lines = writeTable(rows, 'text', 67);
  t.same(lines, [
    `ID${' '.repeat(36)}STATE    REASON`,
    `${id}  stuck    the acquirer did not`,
    `${' '.repeat(47)}respond in time`,
    `x${' '.repeat(37)}running`,
  ]);
  t.ok(lines.every((line) => line.length <= 67));
});

t.test('where wrapping is not enough, each row is a block, so that an id stays whole', async (t) => {
  t.same(writeTable(rows, 'text', 50), [
    `ID      ${id}`,
    'STATE   stuck',
    'REASON  the acquirer did not respond in time',
    '',
    'ID      x',
    'STATE   running',
  ]);
});

t.test('no word is lost at any width', async (t) => {
  const words = rows
    .flat()
    .flatMap((cell) => cell.split(' '))
    .filter(Boolean);
  for (let width = 1; width <= 100; width++) {
    const text = writeTable(rows, 'text', width).join('\n');
    t.same(
      words.filter((word) => !text.includes(word)),
      [],
      `at ${width} columns`,
    );
  }
});

t.test('for programs and pages the width does not matter', async (t) => {
  t.same(
    writeTable(
      [
        ['a', 'b'],
        ['1,2', '"'],
      ],
      'csv',
      3,
    ),
    ['a,b', '"1,2",""""'],
  );
  t.same(
    writeTable(
      [
        ['a', 'b'],
        ['1', '2'],
      ],
      'md',
      3,
    ),
    ['| a | b |', '| --- | --- |', '| 1 | 2 |'],
  );
});
