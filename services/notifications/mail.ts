import { createHash } from 'node:crypto';
import { mkdir, open, rename } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { createTransport } from 'nodemailer';
import type { Delivery } from './delivery.ts';
import { render } from './receipt.ts';

export interface Mailer {
  /** Hands a mail over. Throws when that did not work or is not known to have worked. */
  send(delivery: Pick<Delivery, 'template' | 'data' | 'recipient' | 'mailMessageId'>): Promise<void>;
}

const timeouts = { connectionTimeout: 5_000, greetingTimeout: 5_000, socketTimeout: 10_000 };

/** Sends through SMTP, or into a maildir folder for development. */
export function mailer({ mailUrl, mailFrom }: { mailUrl: string; mailFrom: string }): Mailer {
  const deliver = mailUrl.startsWith('maildir:') ? maildir(new URL(mailUrl).pathname) : smtp(mailUrl);
  return {
    async send({ template, data, recipient, mailMessageId }) {
      const mail = render({ template, data });
      // The same Message-ID at every attempt: a mailbox can tell a repeat.
      await deliver({ from: mailFrom, to: recipient, messageId: mailMessageId, ...mail });
    },
  };
}

type Message = { from: string; to: string; messageId: string; subject: string; text: string; html: string };
type Deliver = (message: Message) => Promise<void>;

function smtp(mailUrl: string): Deliver {
  const transport = createTransport({ url: mailUrl, pool: true, maxConnections: 2, ...timeouts });
  return async (message) => {
    await transport.sendMail(message);
  };
}

/**
 * Writes a maildir: whole files appear in new/ by rename. The name comes from the Message-ID, so that a
 * mail that is sent again takes its own place.
 */
function maildir(folder: string): Deliver {
  const compose = createTransport({ streamTransport: true, buffer: true, newline: 'unix' });
  return async (message) => {
    const { message: bytes } = await compose.sendMail(message);
    if (!Buffer.isBuffer(bytes)) throw new Error('the composed mail is not a buffer');
    for (const part of ['tmp', 'new', 'cur']) await mkdir(join(folder, part), { recursive: true });
    const name = `${createHash('sha256').update(message.messageId).digest('hex').slice(0, 32)}.${hostname()}`;
    const file = await open(join(folder, 'tmp', name), 'w', 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(join(folder, 'tmp', name), join(folder, 'new', name));
  };
}
