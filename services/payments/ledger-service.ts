import { LedgerServiceContract } from '@armature/proto/payments/v1/contract.ts';
import type { TrialBalance_Total } from '@armature/proto/payments/v1/ledger.ts';
import { closePage, type Database, implement, openPage, runIdempotent, utcDate } from '@armature/runtime';
import { accountNotFound } from './errors.ts';
import { type Account, accounts } from './ledger.ts';
import { type Balance, readBalances, readEntries } from './ledger-store.ts';
import { type Reconcile, toMessage } from './reconciliation.ts';
import { listDifferences } from './reconciliation-store.ts';

const pageSizeDefault = 50;

export const ledgerService = (db: Database, reconcile: Reconcile) =>
  implement(LedgerServiceContract, {
    async getAccount({ account, currencyCode }, call) {
      if (!isAccount(account)) throw accountNotFound(account, currencyCode);
      const [balance] = await db.read(call, (sql) => readBalances(sql, { account, currencyCode }));
      if (!balance) throw accountNotFound(account, currencyCode);
      return balance;
    },

    async listEntries(request, call) {
      const { account, paymentId } = request;
      const page = openPage<[string]>(request, pageSizeDefault, ['entries', account, paymentId]);
      if (account !== '' && !isAccount(account)) return { entries: [], nextPageToken: '' };
      const filter = { account: account === '' ? null : account, paymentId, after: String(page.after?.[0] ?? '0') };
      const rows = await db.read(call, (sql) => readEntries(sql, { ...filter, limit: page.size + 1 }));
      const { items, nextPageToken } = closePage(rows, page, (entry): [string] => [String(entry.position)]);
      const entries = items.map(({ entryId, position, paymentId, kind, externalId, postings, createdAt }) => ({
        ...{ entryId, position, paymentId, kind, externalId, postings },
        createTime: createdAt,
      }));
      return { entries, nextPageToken };
    },

    async reconcileLedger({ pageToken, apply, graceSeconds }, call) {
      const page = await reconcile(call, { pageToken, apply, graceSeconds });
      return runIdempotent(db, call, async () => page);
    },

    async listDifferences(request, call) {
      const page = openPage<[string, string]>(request, pageSizeDefault, ['differences']);
      const rows = await db.read(call, (sql) => listDifferences(sql, page.after, page.size + 1));
      const { items, nextPageToken } = closePage(rows, page, (row): [string, string] => [row.firstSeenAt, row.seek]);
      const differences = items.map((row) => ({ ...toMessage(row), firstSeenTime: utcDate(row.firstSeenAt) }));
      return { differences, nextPageToken };
    },

    async getTrialBalance(_request, call) {
      const balances = await db.read(call, (sql) => readBalances(sql));
      const totals = trialTotals(balances);
      return { accounts: balances, totals, balanced: totals.every((total) => total.differenceMinor === 0n) };
    },
  });

const isAccount = (name: string): name is Account => (accounts as readonly string[]).includes(name);

/** The sums of debit and credit balances per currency, pending and posted together. */
export function trialTotals(balances: readonly Balance[]): TrialBalance_Total[] {
  const totals = new Map<string, TrialBalance_Total>();
  for (const { currencyCode, postedMinor, pendingMinor } of balances) {
    const total = totals.get(currencyCode) ?? { currencyCode, debitsMinor: 0n, creditsMinor: 0n, differenceMinor: 0n };
    for (const amount of [postedMinor, pendingMinor]) {
      if (amount > 0n) total.debitsMinor += amount;
      else total.creditsMinor -= amount;
    }
    total.differenceMinor = total.debitsMinor - total.creditsMinor;
    totals.set(currencyCode, total);
  }
  return [...totals.values()];
}
