import type { Background, Database, PeriodicJob, Registry } from '@armature/runtime';
import { Counter } from '@armature/runtime';
import type { SendMail } from '@armature/runtime/mail';
import { attemptsMax, backoffMs, purposeOf, render } from './letter.ts';
import type { LeasedLetter, LetterStore } from './letter-store.ts';
import { mailToken } from './mail-token.ts';
import type { Sealing } from './sealing.ts';

/** Longer than the transport's own limits, shorter than the lease. */
const attemptTimeoutMs = 25_000;
/** How often due letters are looked for when there were none. */
const pollMs = 250;

interface Post {
  db: Database;
  letters: LetterStore;
  send: SendMail;
  sealing: Sealing;
  issuer: string;
  background: Background;
  registry: Registry;
}

/**
 * Sends what is due. A letter is leased, sent outside any transaction, and its outcome recorded only while the lease
 * is still held. Its token is made here and nowhere kept.
 */
export function sendLetters(post: Post): PeriodicJob {
  const { db, letters } = post;
  const outcomes = new Counter({
    name: 'armature_jobs_total',
    help: 'Attempts of background jobs by outcome',
    labelNames: ['job', 'outcome'],
    registers: [post.registry],
  });
  return {
    name: 'letters',
    everyMs: pollMs,
    async run(call) {
      const leased = await db.transaction(call, (tx) => letters.leaseDue(tx));
      const sent = leased.map(async (letter) => outcomes.inc({ job: 'mail', outcome: await sendOne(post, letter) }));
      await Promise.all(sent);
      return leased.length;
    },
  };
}

async function sendOne(post: Post, letter: LeasedLetter): Promise<'sent' | 'failed' | 'dead' | 'lease_lost'> {
  const call = post.background('send mail', attemptTimeoutMs);
  const attempts = letter.attempts + 1;
  let failure: string | null = null;
  try {
    const purpose = purposeOf(letter.kind);
    const token = purpose && mailToken(post.sealing, purpose, letter.letterId);
    const messageId = `<${letter.letterId}@identity.armature.local>`;
    await post.send({ to: letter.recipient, messageId, ...render(letter.kind, post.issuer, token) });
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
    call.log.warn({ err: error, letter: letter.letterId, attempts }, 'mail not sent');
  } finally {
    call.close();
  }
  const state = failure === null ? 'SENT' : attempts >= attemptsMax ? 'DEAD' : 'QUEUED';
  const waitMs = failure === null ? 0 : backoffMs(attempts);
  const result = { state, attempts, lastError: failure ?? '', waitMs } as const;
  const held = await post.db.write(null, (sql) => post.letters.record(sql, letter, result));
  if (!held) return 'lease_lost';
  return state === 'SENT' ? 'sent' : state === 'DEAD' ? 'dead' : 'failed';
}
