import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { reluctantMailServer } from '../../../test/support/mail-server.ts';
import { mailTransport } from './mail.ts';

t.setTimeout(30_000);

const mail = (name: string) => ({
  ...{ to: 'ada@example.com', messageId: `<${name}@example.com>`, subject: name },
  ...{ text: name, html: `<p>${name}</p>` },
});
const never = new AbortController().signal;

/** Resolves when so many e-mails have come to the server. */
async function come(mails: readonly string[], count: number): Promise<void> {
  while (mails.length < count) await sleep(10);
}

t.test('as many e-mails are sent at the same time as there are connections', async (t) => {
  const server = await reluctantMailServer(t);
  const send = mailTransport({ mailUrl: server.url, mailFrom: 'shop@example.com' }, 10);
  const sent = Promise.all(Array.from({ length: 10 }, (_, i) => send(mail(`mail ${i}`), never)));
  await come(server.mails, 10);
  server.letGo();
  await sent;
  t.equal(server.mails.length, 10);
});

t.test('domains are sent in ASCII, and what is no address gets no e-mail', async (t) => {
  const server = await reluctantMailServer(t);
  server.letGo();
  const send = mailTransport({ mailUrl: server.url, mailFrom: 'shop@example.com' }, 1);
  await send({ ...mail('first'), to: 'Ada@Faß.example' }, never);
  t.strictSame(server.recipients, ['Ada@xn--fa-hia.example']);
  for (const to of ['mi\u212Ae@example.org', 'ada@example.org, eve@example.org', 'ada@example.org ']) {
    await t.rejects(send({ ...mail('second'), to }, never), { message: /^the recipient of an e-mail must have/ });
  }
  t.equal(server.mails.length, 1);
});

t.test('an e-mail whose signal is aborted is not sent later', async (t) => {
  const server = await reluctantMailServer(t);
  const send = mailTransport({ mailUrl: server.url, mailFrom: 'shop@example.com' }, 1);
  const [first, waiting] = [new AbortController(), new AbortController()];
  const sending = t.rejects(send(mail('first'), first.signal), { name: 'AbortError' }, 'while it is being sent');
  await come(server.mails, 1);
  const queued = t.rejects(send(mail('waiting'), waiting.signal), { name: 'AbortError' }, 'while it waits');
  waiting.abort();
  await queued;
  first.abort();
  await sending;
  server.letGo();
  await send(mail('last'), never);
  t.strictSame(server.mails, ['Message-ID: <first@example.com>', 'Message-ID: <last@example.com>']);
});

t.test('a maildir may lie under any path', async (t) => {
  const folder = join(t.testdir({}), "a b ü%20'x", 'mail');
  const mailUrl = pathToFileURL(folder).href.replace(/^file:/, 'maildir:');
  await mailTransport({ mailUrl, mailFrom: 'shop@example.com' }, 1)(mail('first'), never);
  t.equal(readdirSync(join(folder, 'new')).length, 1);
  const relative = { mailUrl: 'maildir://mail/new', mailFrom: 'shop@example.com' };
  t.throws(() => mailTransport(relative, 1), { message: /must name an absolute folder, like maildir:\/\/\/folder/ });
});
