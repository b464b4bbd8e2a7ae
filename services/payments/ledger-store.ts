import { type Sql, type SqlReader, type Tx, utcDate } from '@armature/runtime';
import { type Account, type ChainedEntry, type Posting, shardOf } from './ledger.ts';
import type { EntryKind } from './payment.ts';

/** Writes an entry with its postings, and updates the balances. */
export async function writeEntry(tx: Tx, entry: ChainedEntry & { hash: Buffer }): Promise<void> {
  const { entryId, paymentId, sequence, kind, externalId, hash, postings } = entry;
  await tx.execute(
    `insert into ledger_entry (entry_id, payment_id, sequence, kind, external_id, hash, created_at)
     values (?, ?, ?, ?, ?, ?, utc_timestamp(6))`,
    [entryId, paymentId, sequence, kind, externalId, hash],
  );
  await tx.execute(
    `insert into ledger_posting (position, line, account, currency_code, amount_minor, pending)
     values ${postings.map((_, index) => `(last_insert_id(), ${index + 1}, ?, ?, ?, ?)`).join(', ')}`,
    postings.flatMap((posting) => [
      posting.account,
      posting.currencyCode,
      posting.amountMinor,
      posting.pending ? 1 : 0,
    ]),
  );
  await addToBalances(tx, paymentId, postings);
}

/** One statement with its rows in primary key order, so that two transactions on one shard cannot deadlock. */
async function addToBalances(tx: Tx, paymentId: string, postings: readonly Posting[]): Promise<void> {
  const shard = shardOf(paymentId);
  await tx.execute(
    `insert into account_balance (account, currency_code, shard, posted_minor, pending_minor)
     values ${postings.map(() => '(?, ?, ?, ?, ?)').join(', ')}
     on duplicate key update posted_minor = posted_minor + values(posted_minor),
       pending_minor = pending_minor + values(pending_minor)`,
    postings.flatMap(({ account, currencyCode, amountMinor, pending }) => [
      account,
      currencyCode,
      shard,
      pending ? 0n : amountMinor,
      pending ? amountMinor : 0n,
    ]),
  );
}

export interface Balance {
  account: string;
  currencyCode: string;
  postedMinor: bigint;
  pendingMinor: bigint;
}

/** The balance of one account in one currency, or all balances. Accounts without postings are left out. */
export async function readBalances(
  sql: SqlReader,
  only?: { account: Account; currencyCode: string },
): Promise<Balance[]> {
  const rows = await sql.query<{ account: string; currency_code: string; posted: string; pending: string }>(
    `select account, currency_code, cast(sum(posted_minor) as char) as posted, cast(sum(pending_minor) as char) as pending
     from account_balance ${only ? 'where account = ? and currency_code = ?' : ''}
     group by account, currency_code order by currency_code, account`,
    only ? [only.account, only.currencyCode] : [],
  );
  return rows.map((row) => ({
    account: row.account,
    currencyCode: row.currency_code,
    postedMinor: BigInt(row.posted),
    pendingMinor: BigInt(row.pending),
  }));
}

export interface StoredEntry extends ChainedEntry {
  readonly position: bigint;
  readonly createdAt: Date;
  readonly hash: Buffer;
  readonly postings: Posting[];
}

interface EntryRow {
  entry_id: string;
  position: string | number;
  payment_id: string;
  kind: EntryKind;
  external_id: string;
  created_at: string;
  sequence: string | number;
  hash: Buffer;
  account: Account;
  currency_code: string;
  amount_minor: string | number;
  pending: number;
}

/** Entries after a position, oldest first, with their postings, in one query. */
export async function readEntries(
  sql: Pick<Sql, 'query'>,
  filter: { account: Account | null; paymentId: string; after: string; limit: number },
): Promise<StoredEntry[]> {
  const { account, paymentId, after, limit } = filter;
  const from = account === null ? 'ledger_entry k' : 'ledger_posting a join ledger_entry k on k.position = a.position';
  const conditions = [account === null ? 'k.position > ?' : 'a.account = ? and a.position > ?'];
  if (paymentId) conditions.push('k.payment_id = ?');
  const rows = await sql.query<EntryRow>(
    `select e.entry_id, e.position, e.payment_id, e.kind, e.external_id, e.created_at, e.sequence, e.hash,
       p.account, p.currency_code, p.amount_minor, p.pending
     from (select distinct k.position from ${from} where ${conditions.join(' and ')} order by k.position limit ?) page
       join ledger_entry e on e.position = page.position
       join ledger_posting p on p.position = e.position
     order by e.position, p.line`,
    [...(account === null ? [] : [account]), after, ...(paymentId ? [paymentId] : []), limit],
  );
  const entries: StoredEntry[] = [];
  for (const row of rows) {
    const position = BigInt(row.position);
    let entry = entries.at(-1);
    if (entry?.position !== position) {
      entry = {
        entryId: row.entry_id,
        position,
        paymentId: row.payment_id,
        kind: row.kind,
        externalId: row.external_id,
        createdAt: utcDate(row.created_at),
        sequence: BigInt(row.sequence),
        hash: row.hash,
        postings: [],
      };
      entries.push(entry);
    }
    entry.postings.push({
      account: row.account,
      currencyCode: row.currency_code,
      amountMinor: BigInt(row.amount_minor),
      pending: Number(row.pending) !== 0,
    });
  }
  return entries;
}
