/**
 * Checks of the ledger: the invariants of the schema of payments, those that one query cannot express, and
 * the comparison with the acquirer's log.
 */
import { chainBreak } from '../../../services/payments/ledger.ts';
import { readEntries, type StoredEntry } from '../../../services/payments/ledger-store.ts';
import { type AcquirerOperation, differences } from '../../../services/payments/reconcile.ts';
import { ledgerInvariants } from './ledger-invariants.ts';

/** Runs a query in the schema of payments. */
// biome-ignore lint/suspicious/noExplicitAny: rows of any shape, as the driver returns them
export type Query = (sql: string, params?: readonly unknown[]) => Promise<any[]>;

/** The acquirer's whole log. */
export async function acquirerLog(url: string): Promise<(AcquirerOperation & { order_reference: string | null })[]> {
  const all: (AcquirerOperation & { order_reference: string | null })[] = [];
  for (let after = 0; ; ) {
    const response = await fetch(`${url}/v1/operations?after=${after}&limit=1000`);
    const page = (await response.json()) as { operations: typeof all; next_after: number; has_more: boolean };
    all.push(...page.operations);
    if (!page.has_more) return all;
    after = page.next_after;
  }
}

/** Every entry of the ledger, oldest first. */
export async function allEntries(query: Query): Promise<StoredEntry[]> {
  const all: StoredEntry[] = [];
  for (;;) {
    const after = String(all.at(-1)?.position ?? 0);
    const page = await readEntries({ query }, { account: null, paymentId: '', after, limit: 1_000 });
    all.push(...page);
    if (page.length < 1_000) return all;
  }
}

/** Payments whose hash chain was changed or truncated, or does not end with the payment's stored hash. */
export async function brokenChains(query: Query): Promise<{ payment_id: string; sequence: bigint }[]> {
  const chains = Map.groupBy(await allEntries(query), (entry) => entry.paymentId);
  const payments = await query('select payment_id, entry_hash from payment');
  return payments.flatMap(({ payment_id, entry_hash }) => {
    const sequence = chainBreak(chains.get(payment_id) ?? [], entry_hash);
    return sequence === null ? [] : [{ payment_id, sequence }];
  });
}

/** The differences between ledger and acquirer, one sentence each. */
export async function acquirerDifferences(query: Query, acquirer: string): Promise<string[]> {
  return differences(await allEntries(query), await acquirerLog(acquirer));
}

/** Every violation in the schema of payments, one sentence each. */
export async function ledgerViolations(query: Query, acquirer: string): Promise<string[]> {
  const found: string[] = [];
  for (const [name, sql] of Object.entries(ledgerInvariants)) {
    for (const row of await query(sql)) found.push(`${name}: ${JSON.stringify(row, showBigint)}`);
  }
  found.push(...(await acquirerDifferences(query, acquirer)));
  for (const { payment_id, sequence } of await brokenChains(query))
    found.push(`the chain of ${payment_id} breaks at ${sequence}`);
  const gaps = await query(
    `select p.payment_id from payment p left join outbox o on o.aggregate_id = p.payment_id
     group by p.payment_id, p.events having count(o.sequence) <> p.events or coalesce(max(o.sequence), 0) <> p.events`,
  );
  for (const { payment_id } of gaps) found.push(`the events of ${payment_id} are not numbered from 1 to their count`);
  return found;
}

const showBigint = (_key: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);
