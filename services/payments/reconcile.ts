import type { StoredEntry } from './ledger-store.ts';

/** The fields of a record of the acquirer's log that the comparison needs. */
export interface AcquirerOperation {
  operation_id: string;
  kind: string;
  status: string;
  charge_id: string | null;
  amount_minor: number | null;
  currency_code: string | null;
}

/** The records of the acquirer that moved an amount, and the kind of their ledger entries. */
const moved: Readonly<Record<string, StoredEntry['kind']>> = {
  'authorization authorized': 'authorize',
  'capture captured': 'capture',
  'void voided': 'void',
  'refund refunded': 'refund',
  'expiration expired': 'expire',
};

/**
 * Compares the ledger with the acquirer's log by external id in both directions, and returns a sentence for each
 * difference. An authorization that was decided later counts under the id of its first response.
 */
export function differences(entries: readonly StoredEntry[], log: readonly AcquirerOperation[]): string[] {
  const decided = new Set(log.filter((one) => one.kind === 'settlement').map((one) => one.charge_id));
  const theirs = new Map<string, string>();
  for (const one of log) {
    const late = one.kind === 'authorization' && one.status === 'pending' && decided.has(one.charge_id);
    const kind = late ? 'authorize' : moved[`${one.kind} ${one.status}`];
    if (kind) theirs.set(one.operation_id, `${kind} of ${one.amount_minor} ${one.currency_code}`);
  }
  const found: string[] = [];
  const ours = new Set<string>();
  for (const { externalId, kind, postings } of entries) {
    // An operator decided these; the acquirer has no record of them.
    if (kind === 'release' || kind === 'refund_outside') continue;
    if (ours.has(externalId)) found.push(`${externalId} is in the ledger twice`);
    ours.add(externalId);
    const amounts = postings.filter(
      (posting) => posting.amountMinor > 0n && posting.account !== 'customer_authorizations',
    );
    const amount = amounts[0] ?? postings.find((posting) => posting.amountMinor > 0n);
    const text = `${kind} of ${amount?.amountMinor} ${amount?.currencyCode}`;
    const their = theirs.get(externalId);
    if (their === undefined) found.push(`${externalId}, ${text}, is not in the acquirer's log`);
    else if (their !== text) found.push(`${externalId} is ${text} here and ${their} at the acquirer`);
  }
  for (const [id, text] of theirs) if (!ours.has(id)) found.push(`${id}, ${text}, is not in the ledger`);
  return found;
}
