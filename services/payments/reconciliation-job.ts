/**
 * The periodic reconciliation. A lease makes one process at a time run it. Two incremental passes compare new records
 * of the acquirer's log and new ledger entries. Two full passes restart at the first record at an interval, because
 * incremental passes do not detect records that changed or were deleted. Differences that can be resolved are resolved.
 * The others are stored, listed and checked again.
 */
import type { CallContext, Database, PeriodicJob } from '@armature/runtime';
import { openLease } from '@armature/runtime/messaging';
import { Counter, Gauge, type Registry } from '@armature/runtime/telemetry';
import type { Comparison, LedgerDifference } from './comparison.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import {
  acquirerIdPattern,
  acquirerPage,
  type ComparedPage,
  compareWithAcquirer,
  compareWithLedger,
  ledgerPage,
  resolveAll,
} from './reconciliation.ts';
import {
  advancePass,
  countDifferences,
  type Direction,
  dropDifferences,
  keepDifference,
  linesOf,
  type PassName,
  passes,
  passPosition,
  secondsSinceCaughtUp,
  stalestDifferences,
} from './reconciliation-store.ts';

export interface ReconciliationOptions {
  everyMs: number;
  /** How often a full pass begins. */
  fullEveryMs: number;
  /** Younger records are compared later: their outcome may not be committed yet. */
  graceMs: number;
  registry: Registry;
}

const leaseMs = 60_000;
/** The number of stored differences that each run checks again, per direction. */
const recheckLimit = 100;

/** The job, and `close`, which releases its lease. */
export function reconciliationJob(
  dependencies: OperationDependencies,
  options: ReconciliationOptions,
): { job: PeriodicJob; close(): Promise<void> } {
  const { db } = dependencies;
  const lease = openLease(db, 'reconciliation', leaseMs);
  const count = recordCounter(options.registry);
  differenceGauges(db, options.registry);
  const graceSeconds = options.graceMs / 1_000;
  const fullEverySeconds = options.fullEveryMs / 1_000;

  /** Compares the next page of a pass. Returns the number of compared records where more pages are due, 0 otherwise. */
  const step = async (call: CallContext, pass: PassName): Promise<number> => {
    const direction: Direction = pass.startsWith('acquirer') ? 'acquirer' : 'ledger';
    const from = await db.transaction(call, (tx) => passPosition(tx, pass, fullEverySeconds));
    const compare = direction === 'acquirer' ? acquirerPage : ledgerPage;
    const page = await compare(dependencies, call, from, graceSeconds);
    const unresolved = await resolveAndKeep(dependencies, call, direction, page);
    count(direction, page, unresolved);
    await db.write(call, (sql) => advancePass(sql, pass, { from, to: page.last, caughtUp: !page.more }));
    return page.more ? page.compared : 0;
  };

  return {
    job: {
      name: 'reconciliation with the acquirer',
      everyMs: options.everyMs,
      async run(call) {
        if ((await lease.hold()) === null) return 0;
        let more = 0;
        for (const pass of passes) more += await step(call, pass);
        if (more === 0) await recheck(dependencies, call);
        return more;
      },
    },
    close: () => lease.release(),
  };
}

/** Resolves differences where possible, and stores the others. Returns the others. */
async function resolveAndKeep(
  dependencies: OperationDependencies,
  call: CallContext,
  direction: Direction,
  { differences }: Comparison,
): Promise<LedgerDifference[]> {
  if (differences.length === 0) return [];
  const resolved = await resolveAll(dependencies, call, differences);
  const unresolved = differences.filter((one) => !resolved.get(one)?.resolved);
  for (const one of unresolved) {
    const fresh = await dependencies.db.write(call, (sql) => keepDifference(sql, direction, one));
    if (fresh) call.log.error({ ...one, direction }, 'ledger and acquirer differ');
  }
  return unresolved;
}

/** Checks stored differences again, those checked longest ago first, and deletes those that no longer exist. */
async function recheck(dependencies: OperationDependencies, call: CallContext): Promise<void> {
  for (const direction of ['acquirer', 'ledger'] as const) {
    const ids = await dependencies.db.read(call, (sql) => stalestDifferences(sql, direction, recheckLimit));
    if (ids.length === 0) continue;
    const comparison =
      direction === 'acquirer'
        ? await recheckRecords(dependencies, call, ids)
        : await recheckLines(dependencies, call, ids);
    const unresolved = await resolveAndKeep(dependencies, call, direction, comparison);
    const existing = new Set(unresolved.map(({ externalId }) => externalId));
    const resolvedIds = ids.filter((id) => !existing.has(id));
    await dependencies.db.write(call, (sql) => dropDifferences(sql, direction, resolvedIds));
  }
}

async function recheckRecords(
  dependencies: OperationDependencies,
  call: CallContext,
  ids: readonly string[],
): Promise<Comparison> {
  const records = await dependencies.acquirer.lookUp(
    call,
    ids.filter((id) => acquirerIdPattern.test(id)),
  );
  return compareWithLedger(dependencies, call, records);
}

async function recheckLines(
  dependencies: OperationDependencies,
  call: CallContext,
  ids: readonly string[],
): Promise<Comparison> {
  const lines = await dependencies.db.read(call, (sql) => linesOf(sql, ids));
  return compareWithAcquirer(dependencies, call, [...lines.values()]);
}

function recordCounter(registry: Registry) {
  const records = new Counter({
    name: 'armature_reconciliation_records_total',
    help: 'Records of the acquirer and entries of the ledger that were compared: equal, different, resolved, or ignored by their kind',
    labelNames: ['direction', 'result'],
    registers: [registry],
  });
  return (direction: Direction, page: ComparedPage, unresolved: readonly LedgerDifference[]) => {
    let ignored = 0;
    for (const [kind, n] of page.ignored) {
      records.inc({ direction, result: `ignored ${kind}` }, n);
      ignored += n;
    }
    const { compared, differences } = page;
    records.inc({ direction, result: 'equal' }, compared - ignored - differences.length);
    records.inc({ direction, result: 'different' }, unresolved.length);
    records.inc({ direction, result: 'resolved' }, differences.length - unresolved.length);
  };
}

function differenceGauges(db: Database, registry: Registry): void {
  const registers = [registry];
  new Gauge({
    name: 'armature_reconciliation_differences',
    help: 'Unresolved differences between ledger and acquirer, by kind',
    labelNames: ['kind'],
    registers,
    async collect() {
      for (const [kind, n] of await db.read(null, countDifferences)) this.set({ kind }, n);
    },
  });
  new Gauge({
    name: 'armature_reconciliation_caught_up_age_seconds',
    help: 'Time since the periodic reconciliation had compared all records; missing before the first time',
    registers,
    async collect() {
      const age = await db.read(null, secondsSinceCaughtUp);
      if (age === null) this.remove();
      else this.set(age);
    },
  });
}
