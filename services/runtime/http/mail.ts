import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseEmail } from '@armature/proto/email.ts';

/** An e-mail: plain text, and the same as HTML. */
export interface MailMessage {
  /** One e-mail address. Its domain is sent in ASCII. */
  to: string;
  /** The same at every attempt: a mailbox can detect a duplicate. */
  messageId: string;
  subject: string;
  text: string;
  html: string;
}

/**
 * Sends an e-mail. Throws when that failed or its result is unknown. When `signal` is aborted, an e-mail that waits for
 * a connection is not sent, and the connection of one that is being sent is closed.
 */
export type SendMail = (message: MailMessage, signal: AbortSignal) => Promise<void>;

type Outgoing = MailMessage & { from: string };

/** A server may take long to accept an e-mail. The signal ends that: a client that ends it earlier sends a copy. */
const timeouts = { connectionTimeout: 5_000, greetingTimeout: 5_000, socketTimeout: 30_000 };

/**
 * Sends through SMTP, or into a maildir folder for development. `maxConnections` must be the number of e-mails that are
 * sent at the same time: time that an e-mail waits for a connection counts as time of its attempt.
 */
export function mailTransport(
  { mailUrl, mailFrom }: { mailUrl: string; mailFrom: string },
  maxConnections: number,
): SendMail {
  const deliver = mailUrl.startsWith('maildir:') ? maildir(maildirFolder(mailUrl)) : smtp(mailUrl, maxConnections);
  return async (message, signal) => {
    // The library has a conversion of domains of its own, which reads some characters as other ones.
    const to = parseEmail(message.to);
    if ('problem' in to) throw new Error(`the recipient of an e-mail ${to.problem}`);
    await deliver({ ...message, to: to.mailbox, from: mailFrom }, signal);
  };
}

/** The folder of a URL such as maildir:///folder. Like a file URL, it has "%20" for a space. */
function maildirFolder(mailUrl: string): string {
  try {
    return fileURLToPath(mailUrl.replace(/^maildir:/, 'file:'));
  } catch (cause) {
    throw new Error(`the mail URL must name an absolute folder, like maildir:///folder (got ${mailUrl})`, { cause });
  }
}

/** Loaded when the first e-mail is sent: an instance that sends none does not need it. */
const nodemailer = () => import('nodemailer');

type Deliver = (message: Outgoing, signal: AbortSignal) => Promise<void>;

function smtp(mailUrl: string, maxConnections: number): Deliver {
  const transport = async () =>
    (await nodemailer()).createTransport({ url: mailUrl, pool: true, maxConnections, ...timeouts });
  let open: ReturnType<typeof transport> | null = null;
  return async (message, signal) => {
    open ??= transport();
    await (await open).sendMail({ ...message, signal });
  };
}

/**
 * Writes a maildir: complete files appear in new/ by rename. The name comes from the Message-ID, so that an e-mail that
 * is sent again replaces its first copy.
 */
function maildir(folder: string): Deliver {
  return async (message, signal) => {
    const { createTransport } = await nodemailer();
    const compose = createTransport({ streamTransport: true, buffer: true, newline: 'unix' });
    const { message: bytes } = await compose.sendMail({ ...message, signal });
    if (!Buffer.isBuffer(bytes)) throw new Error('the composed mail is not a buffer');
    for (const part of ['tmp', 'new', 'cur']) await mkdir(join(folder, part), { recursive: true });
    const name = `${fileId(message.messageId)}.${hostname()}`;
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

const fileId = (messageId: string): string => createHash('sha256').update(messageId).digest('hex').slice(0, 32);

/**
 * Removes e-mails from the maildir folder of development, where they can be reached. E-mails that went out by SMTP are
 * in the mailboxes of their recipients.
 */
export async function removeMails(mailUrl: string, messageIds: readonly string[]): Promise<void> {
  if (!mailUrl.startsWith('maildir:') || messageIds.length === 0) return;
  const wanted = new Set(messageIds.map(fileId));
  const maildir = maildirFolder(mailUrl);
  for (const part of ['new', 'cur']) {
    const folder = join(maildir, part);
    const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    for (const name of names) if (wanted.has(name.slice(0, 32))) await rm(join(folder, name), { force: true });
  }
}
