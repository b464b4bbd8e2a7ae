/**
 * What the tests over the wire share: callers of the running service, and the books that every test must
 * leave in order. Servers are started by the tests themselves.
 */
import { randomUUID } from 'node:crypto';
import { type ConnectOptions, ledgerClient, paymentsClient } from '@armature/clients';
import type { TrialBalance } from '@armature/proto/payments/v1/ledger.ts';
import { invariants } from './invariants.ts';
import { chainBreak } from './ledger.ts';
import { readEntries, type StoredEntry } from './ledger-store.ts';
import { type AcquirerOperation, differences } from './reconcile.ts';

/** Runs a query as the database's administrator. */
export type Query = (sql: string, params?: readonly unknown[]) => Promise<any[]>;

export interface BedOptions {
  grpc: string;
  acquirer: string;
  ordersTls: ConnectOptions['tls'];
  developerTls: ConnectOptions['tls'];
  /** Access tokens of bo, who is staff, and ada, a customer. */
  tokens: { bo: string; ada: string; admin: string };
}

export type Bed = ReturnType<typeof openBed>;

/** Clients of one running service. */
export function openBed({ grpc, acquirer, ordersTls, developerTls, tokens }: BedOptions) {
  const addresses = [grpc];
  const as = (token: string) => ({ addresses, tls: developerTls, token: () => token });
  const orders = paymentsClient({ addresses, tls: ordersTls });
  const ledger = ledgerClient(as(tokens.bo));
  const people = {
    bo: paymentsClient(as(tokens.bo)),
    ada: paymentsClient(as(tokens.ada)),
    admin: paymentsClient(as(tokens.admin)),
  };
  return {
    orders,
    ledger,
    people,
    acquirer,
    /** A fresh authorization request; what is given replaces what is made up. */
    wish: (
      over: {
        card?: string;
        amountMinor?: bigint;
        currencyCode?: string;
        paymentId?: string;
        requestId?: string;
        customerId?: string;
      } = {},
    ) => ({
      requestId: over.requestId ?? randomUUID(),
      paymentId: over.paymentId ?? randomUUID(),
      orderId: randomUUID(),
      customerId: over.customerId ?? 'ada',
      amount: { currencyCode: over.currencyCode ?? 'EUR', amountMinor: over.amountMinor ?? 1_000n },
      paymentMethod: over.card ?? 'card_ok',
    }),
    close() {
      for (const client of [orders, ledger, ...Object.values(people)]) client.close();
    },
  };
}

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

/** Throws unless the books are in order, saying everything that is wrong. */
export async function booksInOrder(query: Query, acquirer: string, balance: TrialBalance): Promise<void> {
  const wrong = await wrongInBooks(query, acquirer, balance);
  if (wrong.length > 0) throw new Error(`the books are not in order:\n${wrong.join('\n')}`);
}

/**
 * Everything that is wrong with the books, a sentence each: broken invariants, broken chains, gaps in the
 * events of a payment, a trial balance that is not zero, and whatever the acquirer's log says otherwise.
 */
async function wrongInBooks(query: Query, acquirer: string, balance: TrialBalance): Promise<string[]> {
  const found: string[] = [];
  for (const [name, sql] of Object.entries(invariants)) {
    for (const row of await query(sql)) found.push(`${name}: ${JSON.stringify(row, showBigint)}`);
  }
  const entries = await allEntries(query);
  found.push(...differences(entries, await acquirerLog(acquirer)));
  const chains = Map.groupBy(entries, (entry) => entry.paymentId);
  for (const { payment_id, entry_hash } of await query('select payment_id, entry_hash from payment')) {
    const broken = chainBreak(chains.get(payment_id) ?? [], entry_hash);
    if (broken !== null) found.push(`the chain of ${payment_id} breaks at ${broken}`);
  }
  const gaps = await query(
    `select p.payment_id from payment p left join outbox o on o.aggregate_id = p.payment_id
     group by p.payment_id, p.events having count(o.sequence) <> p.events or coalesce(max(o.sequence), 0) <> p.events`,
  );
  for (const { payment_id } of gaps) found.push(`the events of ${payment_id} are not numbered from 1 to their count`);
  if (!balance.balanced || balance.totals.some((total) => total.differenceMinor !== 0n))
    found.push('the trial balance is not zero');
  return found;
}

async function allEntries(query: Query): Promise<StoredEntry[]> {
  const sql = { query };
  const all: StoredEntry[] = [];
  for (;;) {
    const page = await readEntries(sql, {
      account: null,
      paymentId: '',
      after: String(all.at(-1)?.position ?? 0),
      limit: 1_000,
    });
    all.push(...page);
    if (page.length < 1_000) return all;
  }
}

const showBigint = (_key: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);
