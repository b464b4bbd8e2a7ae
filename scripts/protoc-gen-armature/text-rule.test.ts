import t from 'tap';
import { brokenLine, brokenLines, lineProblem, linesProblem } from '../../proto/rules.ts';
import { allowsOnlyAscii } from './text-rule.ts';

// Each row: the text, and whether it is accepted as one line and as several lines.
const rows: readonly [name: string, text: string, line: boolean, lines: boolean][] = [
  ['no text', '', true, true],
  ['ASCII', 'Ada Lovelace', true, true],
  ['blanks at its ends', ' Ada ', true, true],
  ['accents and umlauts', 'Zoë Müller, Straße 5', true, true],
  ['combining marks', 'e\u0301', true, true],
  ['Han, Hebrew, Arabic', '東京 שלום مرحبا', true, true],
  ['emoji of several code points', '👩🏽‍🚀 ❤️‍🔥 👨‍👩‍👧‍👦 🇩🇪', true, true],
  ['a joiner that a script needs', 'می‌خواهم क्‍ष', true, true],
  ['one blank', ' ', false, false],
  ['a no-break blank', '\u00a0', false, false],
  ['an ideographic blank', '\u3000', false, false],
  ['a Braille pattern without dots', '\u2800', false, false],
  ['a Hangul filler', '\u3164', false, false],
  ['a variation selector alone', '\ufe0f', false, false],
  ['a null character', 'a\0b', false, false],
  ['CR LF', 'a\r\nb', false, true],
  ['a tab', 'a\tb', false, true],
  ['line breaks only', '\r\n\n', false, false],
  ['escape', '\u001b[2J', false, false],
  ['delete', 'a\u007f', false, false],
  ['next line', 'a\u0085b', false, false],
  ['a line separator', 'a\u2028b', false, false],
  ['a zero-width blank', '\u200b', false, false],
  ['a zero-width blank inside', 'a\u200bb', false, false],
  ['a byte order mark', '\ufeffa', false, false],
  ['a soft hyphen', 'a\u00adb', false, false],
  ['a bidirectional override', '\u202etxt.exe', false, false],
  ['a bidirectional isolate', 'a\u2066b', false, false],
  ['a direction mark', 'a\u200eb', false, false],
  ['an invisible tag', '\u{e0041}a', false, false],
  ['a joiner after a Latin letter', 'Ada\u200db', false, false],
  ['two joiners', 'م\u200c\u200cم', false, false],
  ['a joiner at the end', 'م\u200c', false, false],
  ['half of a surrogate pair', 'a\ud800', false, false],
  ['a noncharacter', 'a\uffff', false, false],
];

t.test('text of one line and of several', async (t) => {
  for (const [name, text, line, lines] of rows) {
    t.strictSame([!brokenLine(text), lineProblem(text) === ''], [line, line], `${name}, one line`);
    t.strictSame([!brokenLines(text), linesProblem(text) === ''], [lines, lines], `${name}, several lines`);
  }
});

t.test('long hostile texts take linear time', async (t) => {
  for (const unit of [' ', '\u200c', 'م\u200c', 'a ', 'ä ']) {
    const since = performance.now();
    for (let round = 0; round < 10; round += 1) brokenLine(`${unit.repeat(100_000)}\u0301`);
    t.ok(performance.now() - since < 2_000, `${JSON.stringify(unit)}: ${Math.round(performance.now() - since)} ms`);
  }
});

t.test('rules that allow printable ASCII only need no other check', async (t) => {
  const patterns: Record<string, boolean> = {
    '^[!-~]{1,64}$': true,
    '^[A-Z0-9][A-Z0-9._-]{0,63}$': true,
    '^op_[0-9a-f]{32}$': true,
    '^[ -~]*$': false,
    '^[^a]*$': false,
    '^a.c$': false,
    '^\\W$': false,
    '^é$': false,
    '[!-~]': false,
    '^[!-~]|x$': false,
    '^[]a]$': false,
  };
  for (const [pattern, only] of Object.entries(patterns)) {
    t.equal(allowsOnlyAscii(['pattern', pattern]), only, pattern);
  }
  t.ok(allowsOnlyAscii(['uuid', true]));
  t.ok(allowsOnlyAscii(['in', ['yes', 'no']]));
  t.notOk(allowsOnlyAscii(['in', ['yes', ' ']]));
  t.notOk(allowsOnlyAscii(['max_len', 10n]));
});
