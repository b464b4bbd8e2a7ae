import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { findMail } from './mailbox.ts';

const alternative = (encoding: string, body: string) =>
  [
    'From: shop@example.com',
    'To: ada@example.com',
    'Subject: Your order',
    ' is confirmed',
    'Message-ID: <one@example.com>',
    'Content-Type: multipart/alternative;',
    ' boundary="--_x"',
    '',
    '----_x',
    'Content-Type: text/plain; charset=utf-8',
    `Content-Transfer-Encoding: ${encoding}`,
    '',
    body,
    '----_x',
    'Content-Type: text/html; charset=utf-8',
    '',
    '<p>Hello</p>',
    '----_x--',
    '',
  ].join('\n');

t.test('the text of a mail', async (t) => {
  for (const { name, raw, text } of [
    { name: 'as it is', raw: alternative('7bit', 'Hello\n\nYou'), text: 'Hello\n\nYou\n' },
    {
      name: 'quoted printable',
      raw: alternative('quoted-printable', 'Caf=C3=A9 is a l=\nong word'),
      text: 'Café is a long word\n',
    },
    { name: 'base64', raw: alternative('base64', Buffer.from('Grüße').toString('base64')), text: 'Grüße' },
    { name: 'with line ends of the wire', raw: alternative('7bit', 'Hello').replaceAll('\n', '\r\n'), text: 'Hello\n' },
  ]) {
    t.test(name, async (t) => {
      const folder = t.testdir({ new: {} });
      mkdirSync(join(folder, 'new'), { recursive: true });
      writeFileSync(join(folder, 'new', 'one'), raw);
      const mail = await findMail(folder, '<one@example.com>', new Date(0));
      t.match(mail, { subject: 'Your order is confirmed', to: 'ada@example.com', text });
      t.equal(await findMail(folder, '<two@example.com>', new Date(0)), undefined);
      t.equal(await findMail(folder, '<one@example.com>', new Date(Date.now() + 60_000)), undefined, 'too old');
    });
  }
});
