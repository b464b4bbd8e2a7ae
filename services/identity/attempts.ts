import { createHash } from 'node:crypto';
import { type CallContext, type Database, type Sql, type SqlReader, sleep, type Tx } from '@armature/runtime';
import { afterAttempt, type BudgetKind, budgets, failuresOf, type Standing, unknownSubject } from './attempt-budget.ts';
import { attemptTooSoon } from './errors.ts';

/** The longest wait of an attempt. A person waits so long; a server in front of this one may end a longer request. */
const waitMaxMs = 17_000;
/** Attempts of one process that wait at the same time. Further ones are refused instead of waiting. */
const waitingMax = 500;
/** Time of a call that is left for comparing after a wait. */
const reserveMs = 1_000;

/** What is attempted: a subject such as `sign in ada@example.org`, and where the attempt comes from if that is known. */
export interface AttemptRequest {
  subject: string;
  source: string | null;
  /** Whether the source has succeeded with this subject before. */
  familiar: boolean;
}

/** An attempt whose turn has been taken. It counts as failed until `uncount`. */
export interface Attempt {
  readonly waitMs: number;
  /** Failures remembered for the subject and its source before this attempt. */
  readonly failuresBefore: number;
  /** Resolves at the turn of the attempt. Throws ATTEMPT_TOO_SOON when the signal is aborted before. */
  wait(signal: AbortSignal): Promise<void>;
  /** Takes the count of this attempt back: it succeeded, or was never compared. */
  uncount(): Promise<void>;
}

export type Attempts = ReturnType<typeof attempts>;

interface Counted {
  kind: BudgetKind;
  hash: Buffer;
}

/**
 * Slows down guessing, and only that. Budgets are rows of the database, so that restarts and other instances know them,
 * under hashes, for addresses without an account as well. No account is ever locked out.
 */
export function attempts(db: Database) {
  const oneByOne = serially();
  let waiting = 0;

  /** When the next attempt may start. Throws ATTEMPT_TOO_SOON when that is too late for this call. */
  function startOf(call: CallContext, standings: readonly Standing[]): number {
    const startInMs = Math.max(0, ...standings.map(({ dueInMs }) => dueInMs));
    const possibleMs = waiting >= waitingMax ? 0 : Math.min(waitMaxMs, call.deadline - Date.now() - reserveMs);
    if (startInMs > 0 && startInMs > possibleMs) throw attemptTooSoon(startInMs);
    return startInMs;
  }

  return {
    /**
     * Takes a turn before anything is compared: attempts that are made at the same time get one turn after another.
     * An attempt that would wait too long, or beyond the deadline of its call, is refused and not counted.
     */
    async begin(call: CallContext, request: AttemptRequest): Promise<Attempt> {
      const counted = countedBy(request);
      const take = async () => {
        // Without a lock, so that refusing costs one statement.
        startOf(call, await db.read(call, (sql) => standingsOf(sql, counted)));
        return db.transaction(call, async (tx) => {
          const before = await lock(tx, counted);
          const startInMs = startOf(call, before);
          for (const [index, { kind, hash }] of counted.entries()) {
            const standing = before[index] ?? unknownSubject;
            // A source is not held up by the wait for one of its accounts.
            const turnInMs = kind === 'source' ? Math.max(0, standing.dueInMs) : startInMs;
            await save(tx, hash, afterAttempt(standing, budgets[kind], turnInMs));
          }
          return { before, startInMs };
        });
      };
      const { before, startInMs } = await oneByOne(
        counted.map(({ hash }) => hash.toString('base64')),
        take,
      );
      const failures = counted.map(({ kind }, index) => failuresOf(before[index] ?? unknownSubject, budgets[kind]));
      return {
        waitMs: startInMs,
        failuresBefore: Math.max(...failures),
        async wait(signal) {
          if (startInMs <= 0) return;
          const until = performance.now() + startInMs;
          waiting += 1;
          await sleep(startInMs, signal).finally(() => {
            waiting -= 1;
          });
          if (signal.aborted) throw attemptTooSoon(Math.max(1, until - performance.now()));
        },
        async uncount() {
          for (const { kind, hash } of counted) await db.write(null, (sql) => forgetOne(sql, hash, kind));
        },
      };
    },

    /**
     * Deletes rows that say nothing any more, a bounded number at a time. The next attempt of a subject is due at most
     * 77 s after the last one, which is not forgotten before it was made.
     */
    async purge(sql: Sql): Promise<number> {
      const { affectedRows } = await sql.execute(
        'delete from attempt_budget where forgotten_at < utc_timestamp(6) - interval 2 minute limit 500',
      );
      // The table of the release before.
      await sql.execute('delete from attempt where attempted_at < utc_timestamp(6) - interval 15 minute limit 500');
      return affectedRows;
    },
  };
}

/** The budgets that an attempt uses up, the same for known and unknown subjects. */
function countedBy({ subject, source, familiar }: AttemptRequest): Counted[] {
  if (source !== null && familiar) return [{ kind: 'familiar', hash: hashOf('familiar', subject, source) }];
  const account: Counted = { kind: 'account', hash: hashOf('account', subject) };
  return source === null ? [account] : [account, { kind: 'source', hash: hashOf('source', source) }];
}

const hashOf = (...parts: string[]): Buffer => createHash('sha256').update(parts.join('\0')).digest();

interface Row {
  subject_hash: Buffer;
  forgotten_us: string | number;
  due_us: string | number;
}

const selectRows = `select subject_hash, timestampdiff(microsecond, utc_timestamp(6), forgotten_at) as forgotten_us,
    timestampdiff(microsecond, utc_timestamp(6), due_at) as due_us
  from attempt_budget where subject_hash in (?)`;

async function standingsOf(sql: SqlReader, counted: readonly Counted[], suffix = ''): Promise<Standing[]> {
  const rows = await sql.query<Row>(`${selectRows}${suffix}`, [counted.map(({ hash }) => hash)]);
  return counted.map(({ hash }) => {
    const row = rows.find(({ subject_hash }) => hash.equals(subject_hash));
    if (!row) return unknownSubject;
    return { forgottenInMs: Number(row.forgotten_us) / 1_000, dueInMs: Number(row.due_us) / 1_000 };
  });
}

/** Locks the rows of an attempt, which it makes where they are missing. In one order, so that no two wait for each other. */
async function lock(tx: Tx, counted: readonly Counted[]): Promise<Standing[]> {
  const hashes = counted.map(({ hash }) => hash).sort(Buffer.compare);
  await tx.execute(
    `insert into attempt_budget (subject_hash, forgotten_at, due_at)
     values ${hashes.map(() => '(?, utc_timestamp(6), utc_timestamp(6))').join(', ')}
     on duplicate key update forgotten_at = forgotten_at`,
    hashes,
  );
  return standingsOf(tx, counted, ' for update');
}

async function save(tx: Tx, hash: Buffer, { forgottenInMs, dueInMs }: Standing): Promise<void> {
  await tx.execute(
    `update attempt_budget set forgotten_at = utc_timestamp(6) + interval ? microsecond,
       due_at = utc_timestamp(6) + interval ? microsecond
     where subject_hash = ?`,
    [Math.round(forgottenInMs * 1_000), Math.round(dueInMs * 1_000), hash],
  );
}

async function forgetOne(sql: Sql, hash: Buffer, kind: BudgetKind): Promise<void> {
  await sql.execute(
    'update attempt_budget set forgotten_at = forgotten_at - interval ? microsecond where subject_hash = ?',
    [budgets[kind].forgetMs * 1_000, hash],
  );
}

/**
 * Runs work one after another for each key. Without it, a crowd that guesses at one account would wait for the lock of
 * its row with all connections of the pool.
 */
function serially() {
  const last = new Map<string, Promise<unknown>>();
  const inTurn = async <T>(key: string, work: () => Promise<T>): Promise<T> => {
    const before = last.get(key) ?? Promise.resolve();
    const mine = before.then(work);
    const ended = mine.catch(() => undefined);
    last.set(key, ended);
    await ended;
    if (last.get(key) === ended) last.delete(key);
    return mine;
  };
  return <T>(keys: readonly string[], work: () => Promise<T>): Promise<T> =>
    keys.reduceRight<() => Promise<T>>((inner, key) => () => inTurn(key, inner), work)();
}
