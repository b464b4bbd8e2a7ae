import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Teardown } from './infra.ts';

/**
 * A mail server that responds to no e-mail before `letGo`. `mails` has the Message-ID line of each that came,
 * `recipients` the address that each was sent to.
 */
export async function reluctantMailServer(t: Teardown) {
  const mails: string[] = [];
  const recipients: string[] = [];
  const goOn = Promise.withResolvers<void>();
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let text: string[] | null = null;
    const say = (line: string) => socket.write(`${line}\r\n`);
    say('220 reluctant');
    createInterface({ input: socket }).on('line', async (line) => {
      if (text === null) {
        if (line === 'DATA') text = [];
        const to = /^RCPT TO:<(.*)>/.exec(line)?.[1];
        if (to !== undefined) recipients.push(to);
        return void say(text ? '354 go on' : '250 ok');
      }
      if (line !== '.') return void text.push(line);
      mails.push(text.find((one) => /^message-id:/i.test(one)) ?? 'a mail without an id');
      text = null;
      await goOn.promise;
      say('250 taken');
    });
    // Senders that end do not say goodbye.
    socket.on('error', () => socket.destroy());
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { url: `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`, mails, recipients, letGo: goOn.resolve };
}
