import { randomUUID } from 'node:crypto';
import type { ledgerClient } from '@armature/clients';
import { type Difference, DifferenceKind } from '@armature/proto/payments/v1/ledger.ts';
import { writeTable } from '../table.ts';

export interface Comparison {
  compared: number;
  differences: Difference[];
}

/** Differences that are kept and shown; with more of them, something is wrong that no table explains. */
const differencesMax = 10_000;

/** Compares everything, page by page. With `apply`, what can be resolved is. */
export async function compareBooks(
  client: Pick<ReturnType<typeof ledgerClient>, 'reconcileLedger'>,
  { apply, graceSeconds }: { apply: boolean; graceSeconds: number },
): Promise<Comparison> {
  const all: Comparison = { compared: 0, differences: [] };
  let pageToken = '';
  do {
    const page = await client.reconcileLedger({ requestId: randomUUID(), pageToken, apply, graceSeconds });
    all.compared += page.compared;
    all.differences.push(...page.differences);
    if (all.differences.length > differencesMax) throw new Error(`more than ${differencesMax} differences`);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return all;
}

const kindNames: Readonly<Record<number, string>> = {
  [DifferenceKind.DIFFERENCE_KIND_OUTCOME_MISSING]: 'outcome missing',
  [DifferenceKind.DIFFERENCE_KIND_NOT_IN_LEDGER]: 'not in ledger',
  [DifferenceKind.DIFFERENCE_KIND_NOT_AT_ACQUIRER]: 'not at acquirer',
  [DifferenceKind.DIFFERENCE_KIND_DISAGREEMENT]: 'disagreement',
  [DifferenceKind.DIFFERENCE_KIND_HOLD_ENDED]: 'hold ended',
  [DifferenceKind.DIFFERENCE_KIND_RECORD_UNKNOWN]: 'record unknown',
};

/** Lines of a table, with a line of headings. */
export function tableOf(differences: readonly Difference[], width = Number.POSITIVE_INFINITY): string[] {
  const rows = [
    ['kind', 'external id', 'operation', 'ours', 'theirs', 'result'],
    ...differences.map((one) => [
      kindNames[one.kind] ?? String(one.kind),
      one.externalId,
      one.operationId || '-',
      one.ours || '-',
      one.theirs || '-',
      one.result || '-',
    ]),
  ];
  return writeTable(rows, 'text', width);
}
