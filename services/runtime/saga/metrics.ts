import type { Database } from '../db/database.ts';
import { cached } from '../messaging/metrics.ts';
import { Counter, Gauge, Histogram, latencyBuckets, type Registry } from '../telemetry/metrics.ts';
import type { SagaDefinition } from './definition.ts';
import { type Tally, tally } from './store.ts';

const durationBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];
const tallyKeptMs = 2_000;

/** Metrics of a saga worker. */
export function sagaMetrics(
  registry: Registry,
  db: Pick<Database, 'read'>,
  definitions: readonly Pick<SagaDefinition, 'name' | 'version'>[],
) {
  unfinishedGauges(registry, db, definitions);
  const registers = [registry];
  return {
    inProgress: new Gauge({
      name: 'armature_sagas_in_progress',
      help: 'Sagas this process holds a lease on',
      registers,
    }),
    stepSeconds: new Histogram({
      name: 'armature_saga_step_seconds',
      help: 'Time of one try of a step, by what was tried',
      labelNames: ['saga', 'step', 'action'] as const,
      buckets: latencyBuckets,
      registers,
    }),
    outcomes: new Counter({
      name: 'armature_saga_step_outcomes_total',
      help: 'Outcomes of tries of steps',
      labelNames: ['saga', 'step', 'action', 'outcome'] as const,
      registers,
    }),
    finished: new Counter({
      name: 'armature_sagas_finished_total',
      help: 'Sagas that ended here',
      labelNames: ['saga', 'result'] as const,
      registers,
    }),
    seconds: new Histogram({
      name: 'armature_saga_seconds',
      help: 'Time from the start of a saga to its end',
      labelNames: ['saga', 'result'] as const,
      buckets: durationBuckets,
      registers,
    }),
    leasesLost: new Counter({
      name: 'armature_saga_leases_lost_total',
      help: 'Outcomes not recorded because another worker had taken over',
      registers,
    }),
    recordingsFailed: new Counter({
      name: 'armature_saga_recordings_failed_total',
      help: 'Recordings of outcomes that failed and are tried again',
      labelNames: ['saga'] as const,
      registers,
    }),
  };
}

export type SagaMetrics = ReturnType<typeof sagaMetrics>;

/** Gauges of unfinished sagas, from the database: at each scrape, but at most every 2 s. */
function unfinishedGauges(
  registry: Registry,
  db: Pick<Database, 'read'>,
  definitions: readonly Pick<SagaDefinition, 'name' | 'version'>[],
): void {
  const registers = [registry];
  const names = [...new Set(definitions.map(({ name }) => name))];
  const isKnown = (row: Tally) => definitions.some(({ name, version }) => name === row.name && version === row.version);
  const unfinished = cached(tallyKeptMs, () => db.read(null, tally));
  /** A gauge with one value per label set of unfinished sagas; without the database it has no values. */
  const gauge = <L extends string>(
    name: string,
    help: string,
    labelNames: L[],
    show: (gauge: Gauge<L>, rows: Tally[]) => void,
  ) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      async collect() {
        this.reset();
        const rows = await unfinished().catch(() => null);
        if (rows) show(this, rows);
      },
    });

  gauge('armature_sagas', 'Sagas that have not ended, by state', ['saga', 'status'], (target, rows) => {
    for (const saga of names) {
      for (const status of ['RUNNING', 'WAITING', 'STUCK']) target.set({ saga, status }, 0);
    }
    for (const { name, status, count } of rows) target.inc({ saga: name, status }, count);
  });
  gauge('armature_sagas_stuck', 'Sagas that wait for an operator', ['saga'], (target, rows) => {
    for (const saga of names) target.set({ saga }, 0);
    for (const { name, status, count } of rows) if (status === 'STUCK') target.inc({ saga: name }, count);
  });
  gauge(
    'armature_sagas_unknown',
    'Sagas that have not ended and whose name or version this process does not know: it never runs them',
    ['saga', 'version'],
    (target, rows) => {
      for (const row of rows) {
        if (!isKnown(row)) target.inc({ saga: row.name, version: String(row.version) }, row.count);
      }
    },
  );
  gauge('armature_saga_oldest_unfinished_seconds', 'Age of the oldest unfinished saga', ['saga'], (target, rows) => {
    for (const saga of new Set([...names, ...rows.map(({ name }) => name)])) {
      const ages = rows.filter((row) => row.name === saga).map((row) => row.oldestSeconds);
      target.set({ saga }, Math.max(0, ...ages));
    }
  });
}
