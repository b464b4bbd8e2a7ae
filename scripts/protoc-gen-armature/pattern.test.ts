import t from 'tap';
import { translatePattern } from './pattern.ts';

t.test('accepts patterns, and matches the same texts', async (t) => {
  const rows: readonly [pattern: string, maxLength: number, matches: readonly string[], not: readonly string[]][] = [
    ['^[A-Z0-9][A-Z0-9._-]{0,63}$', Number.POSITIVE_INFINITY, ['A', 'A-._9'], ['', '-A', 'a', `A${'A'.repeat(64)}`]],
    ['^[A-Z]{3}$', Number.POSITIVE_INFINITY, ['EUR'], ['EU', 'EURO', 'EUR\n']],
    ['^[a-z]+$', 100, ['abc'], ['', 'a1']],
    ['[0-9]{2}', 100, ['a12b'], ['1a2']],
    ['^(foo|ba[rz])?$', 10, ['', 'foo', 'baz'], ['bar!', 'ba']],
    ['^(?:[a-z]{1,3}-){1,3}$', 20, ['a-', 'abc-de-'], ['-', 'abcd-']],
    ['^a.c$', 10, ['abc', 'a😀c', 'a\u2028c'], ['ac', 'a\nc']],
    ['^\\.\\-\\/\\@/$', 10, ['.-/@/'], ['x-/@/']],
    ['^[]a]$', 10, [']', 'a'], ['b']],
    ['^[^a-c[]$', 10, ['d', '😀'], ['a', '[']],
    ['^\\d\\w\\D$', 10, ['1_x'], ['a_x']],
    ['^a|b$', 10, ['ax', 'xb'], ['xa', 'bx']],
  ];
  for (const [pattern, maxLength, matches, not] of rows) {
    const regExp = new RegExp(translatePattern(pattern, maxLength), 'u');
    for (const text of matches) t.ok(regExp.test(text), `${pattern} matches ${encodeURIComponent(text)}`);
    for (const text of not) t.notOk(regExp.test(text), `${pattern} does not match ${encodeURIComponent(text)}`);
  }
});

t.test('refuses patterns', async (t) => {
  const rows: readonly [pattern: string, maxLength: number, says: RegExp][] = [
    ['^(a)\\1$', 10, /no backreferences/],
    ['^(?=a)', 10, /no lookaround/],
    ['^(?<!a)b', 10, /no lookaround/],
    ['^(?P<name>a)$', 10, /names or flags/],
    ['(?i)a', 10, /names or flags/],
    ['^[[:alpha:]]$', 10, /write its characters out/],
    ['^\\bword\\b$', 10, /\\b/],
    ['^\\p{L}$', 10, /\\p/],
    ['^(a', 10, /"\(" that is not closed/],
    ['a)', 10, /"\)" too many/],
    ['^[a', 10, /"\[" that is not closed/],
    ['^[z-a]$', 10, /not a regular expression/],
    ['*a', 10, /repeats nothing/],
    ['^a**$', 10, /repeats a repeat/],
    ['^a{2,1}$', 10, /has the repeat \{2,1\}/],
    ['^a{1,1001}$', 10, /up to 1000/],
    ['a\\', 10, /ends with a backslash/],
    ['^a+$', Number.POSITIVE_INFINITY, /set max_len/],
    ['^(a+)+$', 64, /hostile input/],
    ['^(a|aa)+$', 64, /hostile input/],
    ['^([a-z]{1,60}-?){1,20}$', 64, /hostile input/],
    ['^a*a*a*a*$', 200, /hostile input/],
    ['[a-z]+[0-9]', 5000, /hostile input/],
  ];
  for (const [pattern, maxLength, says] of rows) {
    t.throws(() => translatePattern(pattern, maxLength), says, pattern);
  }
});
