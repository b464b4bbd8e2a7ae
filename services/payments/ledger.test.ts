import t from 'tap';
import {
  assertBalanced,
  type ChainedEntry,
  chainBreak,
  chainHash,
  chainStart,
  postingsOf,
  shardOf,
  shards,
} from './ledger.ts';
import { trialTotals } from './ledger-service.ts';
import type { OperationKind } from './payment.ts';

t.test('postings', async (t) => {
  const table: Record<OperationKind, string> = {
    authorize: 'acquirer_holds 7 pending, customer_authorizations -7 pending',
    capture: 'acquirer_holds -7 pending, acquirer_receivable 7, customer_authorizations 7 pending, sales -7',
    void: 'acquirer_holds -7 pending, customer_authorizations 7 pending',
    refund: 'acquirer_receivable -7, refunds 7',
  };
  for (const [kind, expected] of Object.entries(table)) {
    const postings = postingsOf(kind as OperationKind, 'EUR', 7n);
    const said = postings.map((p) => `${p.account} ${p.amountMinor}${p.pending ? ' pending' : ''}`).join(', ');
    t.equal(said, expected, kind);
  }
});

t.test('an entry that does not balance is not written', async (t) => {
  const part = postingsOf('capture', 'EUR', 3n, 7n).map(({ account, amountMinor }) => `${account} ${amountMinor}`);
  const whole = ['acquirer_holds -7', 'acquirer_receivable 3', 'customer_authorizations 7', 'sales -3'];
  t.strictSame(part, whole, 'a capture of a part releases the whole hold');
  const [debit, credit] = postingsOf('authorize', 'EUR', 7n);
  if (!debit || !credit) return t.fail('two postings');
  const rows = [
    { name: 'one side', postings: [debit] },
    { name: 'two amounts', postings: [debit, { ...credit, amountMinor: -8n }] },
    { name: 'two currencies', postings: [debit, { ...credit, currencyCode: 'USD' }] },
    { name: 'a hold against money', postings: [debit, { ...credit, pending: false }] },
  ];
  for (const { name, postings } of rows) t.throws(() => assertBalanced(postings), /out of balance/, name);
});

t.test('shards are spread evenly', async (t) => {
  const used = new Set(Array.from({ length: 256 }, (_, n) => shardOf(`x-${n.toString(16).padStart(2, '0')}`)));
  t.equal(used.size, shards);
});

t.test('the chain', async (t) => {
  const chain: (ChainedEntry & { hash: Buffer })[] = [];
  for (const kind of ['authorize', 'capture', 'refund'] as const) {
    const sequence = BigInt(chain.length + 1);
    const postings = postingsOf(kind, 'EUR', 7n);
    const entry = { entryId: `e${sequence}`, paymentId: 'p', sequence, kind, externalId: `x${sequence}`, postings };
    chain.push({ ...entry, hash: chainHash(chain.at(-1)?.hash ?? chainStart, entry) });
  }
  const last = chain.at(-1)?.hash ?? chainStart;
  const [first, second, third] = chain;
  if (!first || !second || !third) return t.fail('three entries');
  const rows = [
    { name: 'whole', entries: chain, broken: null },
    {
      name: 'an amount was changed',
      entries: [first, { ...second, postings: postingsOf('capture', 'EUR', 8n) }, third],
      broken: 2n,
    },
    { name: 'one is missing', entries: [first, third], broken: 2n },
    { name: 'the last is missing', entries: [first, second], broken: 3n },
    { name: 'two changed places', entries: [second, first, third], broken: 1n },
    { name: 'an external id was changed', entries: [{ ...first, externalId: 'y' }, second, third], broken: 1n },
  ];
  for (const { name, entries, broken } of rows) t.equal(chainBreak(entries, last), broken, name);
  t.equal(chainBreak([], chainStart), null, 'empty');
});

t.test('totals of a trial balance', async (t) => {
  const balance = (account: string, currencyCode: string, postedMinor: bigint, pendingMinor = 0n) => ({
    ...{ account, currencyCode, postedMinor, pendingMinor },
  });
  t.strictSame(
    trialTotals([
      balance('a', 'EUR', 5n, 3n),
      balance('b', 'EUR', -5n),
      balance('c', 'EUR', 0n, -3n),
      balance('a', 'USD', 1n),
    ]),
    [
      { currencyCode: 'EUR', debitsMinor: 8n, creditsMinor: 8n, differenceMinor: 0n },
      { currencyCode: 'USD', debitsMinor: 1n, creditsMinor: 0n, differenceMinor: 1n },
    ],
  );
});
