/**
 * The double-entry ledger. A positive amount is a debit, a negative one a credit. Every entry adds up to zero per
 * currency, pending and posted amounts separately. The accounts, per currency:
 *
 *   acquirer_holds           pending   amounts that the acquirer holds on cards          never below zero
 *   customer_authorizations  pending   the contra account of acquirer_holds              never above zero
 *   acquirer_receivable      posted    captured and not refunded, owed by the acquirer   never below zero
 *   sales                    posted    sum of all captures                               never above zero
 *   refunds                  posted    sum of all refunds                                never below zero
 *   external_refunds         posted    refunds that were not paid by the acquirer        never above zero
 *
 * Entries and postings are append-only. Balances are updated in the transaction of the entry, so the cost of reading a
 * balance does not depend on the length of the ledger. All payments would contend for the lock of a single row per
 * account, so each balance is spread over a fixed number of shards, chosen by the payment. A balance is the sum of its
 * shards and always equals the sum of its postings.
 *
 * The entries of one payment form a hash chain. One chain over all entries would serialize all payments.
 */
import { createHash } from 'node:crypto';
import { newId } from '@armature/runtime';
import type { EntryKind, Movement, Payment } from './payment.ts';

export const accounts = [
  'acquirer_holds',
  'acquirer_receivable',
  'customer_authorizations',
  'external_refunds',
  'refunds',
  'sales',
] as const;
export type Account = (typeof accounts)[number];

export interface Posting {
  readonly account: Account;
  readonly currencyCode: string;
  readonly amountMinor: bigint;
  /** True for a hold, false for money that moved. */
  readonly pending: boolean;
}

/** An amount that moves from one account to another: debit here, credit there. */
interface Move {
  debit: Account;
  credit: Account;
  pending: boolean;
}

const hold: Move = { debit: 'acquirer_holds', credit: 'customer_authorizations', pending: true };
const release: Move = { debit: 'customer_authorizations', credit: 'acquirer_holds', pending: true };
const sale: Move = { debit: 'acquirer_receivable', credit: 'sales', pending: false };
const refund: Move = { debit: 'refunds', credit: 'acquirer_receivable', pending: false };
/** The refund was not paid by the acquirer, so the acquirer still owes the captured amount. */
const refundOutside: Move = { debit: 'refunds', credit: 'external_refunds', pending: false };

const moves: Record<EntryKind, readonly Move[]> = {
  authorize: [hold],
  capture: [release, sale],
  void: [release],
  refund: [refund],
  expire: [release],
  release: [release],
  refund_outside: [refundOutside],
};

/**
 * The postings of an operation that moved this amount, in the order of their accounts. A capture of a part of a hold
 * releases the whole hold.
 */
export function postingsOf(
  kind: EntryKind,
  currencyCode: string,
  amountMinor: bigint,
  holdMinor: bigint = amountMinor,
): Posting[] {
  const postings = moves[kind].flatMap(({ debit, credit, pending }) => {
    const minor = pending ? holdMinor : amountMinor;
    return [
      { account: debit, currencyCode, amountMinor: minor, pending },
      { account: credit, currencyCode, amountMinor: -minor, pending },
    ];
  });
  postings.sort((a, b) => (a.account < b.account ? -1 : 1));
  assertBalanced(postings);
  return postings;
}

/** Throws unless the postings add up to zero per currency, pending and posted amounts separately. */
export function assertBalanced(postings: readonly Posting[]): void {
  const sums = new Map<string, bigint>();
  for (const { currencyCode, pending, amountMinor } of postings) {
    const key = `${currencyCode} ${pending ? 'pending' : 'posted'}`;
    sums.set(key, (sums.get(key) ?? 0n) + amountMinor);
  }
  for (const [key, sum] of sums) if (sum !== 0n) throw new Error(`an entry is out of balance by ${sum} ${key}`);
}

export const shards = 16;

/** The shard that all balances of a payment are kept in. Ids are UUIDs, whose last digits are spread evenly. */
export const shardOf = (paymentId: string): number => Number.parseInt(paymentId.slice(-2), 16) % shards;

/** The fields of an entry that the hash covers: all but position and time, which the database assigns. */
export interface ChainedEntry {
  readonly entryId: string;
  readonly paymentId: string;
  /** The entry's place in its payment's chain, from 1 without gaps. */
  readonly sequence: bigint;
  readonly kind: EntryKind;
  readonly externalId: string;
  readonly postings: readonly Posting[];
}

/** The hash before the first entry of a payment. */
export const chainStart: Buffer = Buffer.alloc(32);

/** The end of a payment's chain: how many entries there are, and the hash of the last. */
export interface ChainHead {
  readonly entries: bigint;
  readonly hash: Buffer;
}

/** The next entry of a payment's chain. */
export function chainEntry(
  head: ChainHead,
  { paymentId, currencyCode, amountMinor: holdMinor }: Payment,
  { kind, amountMinor, externalId }: Movement,
): ChainedEntry & { hash: Buffer } {
  const postings = postingsOf(kind, currencyCode, amountMinor, holdMinor);
  const entry = { entryId: newId(), paymentId, sequence: head.entries + 1n, kind, externalId, postings };
  return { ...entry, hash: chainHash(head.hash, entry) };
}

/** The hash of an entry, which covers its content and, through the hash before it, all earlier ones. */
export function chainHash(before: Buffer, entry: ChainedEntry): Buffer {
  const { entryId, paymentId, sequence, kind, externalId } = entry;
  const postings = entry.postings.map((p) => [p.account, p.currencyCode, String(p.amountMinor), p.pending]);
  const content = JSON.stringify([entryId, paymentId, String(sequence), kind, externalId, postings]);
  return createHash('sha256').update(before).update(content).digest();
}

/**
 * The sequence of the first entry that is changed, missing or out of order; null where the chain is intact. `last` is
 * the hash that is stored with the payment.
 */
export function chainBreak(entries: readonly (ChainedEntry & { hash: Buffer })[], last: Buffer): bigint | null {
  let before = chainStart;
  let expected = 1n;
  for (const entry of entries) {
    if (entry.sequence !== expected || !chainHash(before, entry).equals(entry.hash)) return expected;
    before = entry.hash;
    expected += 1n;
  }
  return before.equals(last) ? null : expected;
}
