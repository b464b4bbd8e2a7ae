import t from 'tap';
import { emailKey, emailProblem, isEmail, parseEmail } from '../../proto/email.ts';

t.test('addresses and the form in which they are compared', async (t) => {
  for (const [address, mailbox] of [
    ['Ada.Lovelace+shop@Example.ORG', 'Ada.Lovelace+shop@example.org'],
    ['ada@localhost', 'ada@localhost'],
    ['ada@bücher.example', 'ada@xn--bcher-kva.example'],
    ['ada@BÜCHER.example', 'ada@xn--bcher-kva.example'],
    ['ada@bu\u0308cher.example', 'ada@xn--bcher-kva.example'],
    ['ada@XN--Bcher-KVA.example', 'ada@xn--bcher-kva.example'],
    ['ada@faß.example', 'ada@xn--fa-hia.example'],
    ['ada@例え。jp', 'ada@xn--r8jz45g.jp'],
    ['ada@पुस्तक.example', 'ada@xn--11b3ar0d1b5d.example'],
    ['ada@ｅxample.org', 'ada@example.org'],
    ['ada@\u212Aiosk.example', 'ada@kiosk.example'],
    ['ada@ſhop.example', 'ada@shop.example'],
    ['ada@ıstanbul.example', 'ada@xn--stanbul-qfb.example'],
  ] as const) {
    t.strictSame(parseEmail(address), { mailbox, key: mailbox.toLowerCase() }, address);
    t.equal(emailKey(mailbox), mailbox.toLowerCase(), `${address}: the form is its own form`);
    t.equal(emailProblem(address), '', address);
  }
});

t.test('texts that are no addresses', async (t) => {
  const local = /ASCII letters, digits .* before the @/;
  const domain = /a domain name after the @/;
  for (const [text, problem] of [
    ['', /such as name@example.org/],
    ['ada', /such as name@example.org/],
    ['@example.org', /such as name@example.org/],
    ['ada@', /such as name@example.org/],
    ['ada＠example.org', /such as name@example.org/],
    ['mi\u212Ae@example.org', local],
    ['a\u017Fa@example.org', local],
    ['ａda@example.org', local],
    ['ad\u0131@example.org', local],
    ['jörg@example.org', local],
    ['jo\u0308rg@example.org', local],
    [' ada@example.org', local],
    ['\tada@example.org', local],
    ['ada @example.org', local],
    ['ada@eve@example.org', local],
    ['"ada"@example.org', local],
    ['ada@example.org ', domain],
    ['ada@example.org   ', domain],
    ['ada@example.org\t', domain],
    ['ada@example.org\n', domain],
    ['ada@example.org\u00A0', domain],
    ['ada@example.org\u200B', domain],
    ['ada@exam\u00ADple.org', domain],
    ['ada@a\u200Db.example', domain],
    ['ada@example.org.', domain],
    ['ada@example..org', domain],
    ['ada@-example.org', domain],
    ['ada@exa_mple.org', domain],
    ['ada@example.org/x', domain],
    ['ada@example.org:25', domain],
    ['ada@example.org?x', domain],
    ['ada@%65xample.org', domain],
    ['ada@192.0.2.1', domain],
    ['ada@0x7f.1', domain],
    ['ada@１.２.３.４', domain],
    ['ada@[192.0.2.1]', domain],
    [`${'a'.repeat(65)}@example.org`, /at most 64 characters before the @/],
    [`ada@${'a'.repeat(64)}.org`, domain],
    [`ada@${`${'a'.repeat(60)}.`.repeat(5)}org`, /at most 254 characters/],
    [`ada@${`国際化日本語中文字.`.repeat(8)}org`, /at most 254 characters in ASCII/],
  ] as const) {
    t.match(emailProblem(text), problem, JSON.stringify(text));
    t.notOk(isEmail(text));
    t.equal(emailKey(text), null);
  }
});

t.test(
  'every address of the former rule has its lower case as its form: rows of before stay as they are',
  async (t) => {
    const former =
      /^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$/;
    const parts = ['a', 'Z9', 'x-1', 'XN--bcher-KVA', 'xn--a', 'a--b', '7', 'o'.repeat(63), '1e1'];
    let kept = 0;
    for (const first of parts) {
      for (const second of parts) {
        for (const third of parts) {
          const address = `Ada.'{x}+${first}@${first}.${second}.${third}`;
          if (!former.test(address) || !isEmail(address)) continue;
          t.equal(emailKey(address), address.toLowerCase(), address);
          kept += 1;
        }
      }
    }
    t.ok(kept > 300, `${kept} addresses`);
  },
);

t.test('the time for a text is bounded', async (t) => {
  const began = process.cpuUsage();
  for (const part of ['a', 'a.', '-', '@', 'ü', '例.', '1.']) emailProblem(`ada@${part.repeat(100_000)}`);
  const { user, system } = process.cpuUsage(began);
  t.ok(user + system < 100_000, `${(user + system) / 1_000} ms`);
});
