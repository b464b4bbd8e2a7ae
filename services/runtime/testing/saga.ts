/** The test bed of the saga engine: its own schema, and simulated services that act once per key. */
import { background } from '../context/background.ts';
import { type Database, openDatabase } from '../db/database.ts';
import { migrate } from '../db/migrate.ts';
import { RpcError } from '../errors/errors.ts';
import { newId } from '../id/id.ts';
import { advance, begin, type Input, type State } from '../saga/core.ts';
import {
  defineSaga,
  type RemoteStep,
  type RetryPolicy,
  type SagaDefinition,
  type StatusOutcome,
  type StepContext,
} from '../saga/definition.ts';
import { type SagaWorker, startSaga, startSagaWorker } from '../saga/engine.ts';
import { Migration20261101000002_saga } from '../saga/migration.ts';
import { done, rejected } from '../saga/outcome.ts';
import { Migration20261127310000_saga_overdue } from '../saga/overdue-migration.ts';
import { Migration20261127300000_saga_retention } from '../saga/retention-migration.ts';
import { Migration20261127320000_saga_secrets } from '../saga/secrets-migration.ts';
import { Migration20261127000000_saga_versions } from '../saga/versions-migration.ts';
import type { SagaWorkerOptions } from '../saga/worker.ts';
import { createLogger } from '../telemetry/log.ts';
import { Registry } from '../telemetry/metrics.ts';

interface Teardown {
  teardown(undo: () => unknown): unknown;
}

/** An empty schema, as the test support makes it. */
interface EmptySchema {
  url: string;
  migratorUrl: string;
  adminUrl: string;
  migrated(): Promise<void>;
}

const log = createLogger('test', 'silent');
export const open = background('test', log);

/** The behaviour of one try of a step, instead of success. */
export type Behaviour =
  | 'work'
  | 'refuse'
  /** The response is lost, after the step acted or without that. */
  | 'act, then time out'
  | 'time out'
  | 'hang';

/** Decides how the next call behaves; `call` is for example "run reserve". */
export type Script = (call: string, ctx: StepContext<unknown>) => Behaviour | Promise<Behaviour>;

const away = () => new RpcError('UNAVAILABLE', 'DEPENDENCY_UNAVAILABLE', 'does not respond');

/**
 * The services that a saga calls, in a table so that they outlive a killed process: a step acts once per key and
 * returns the same result to a duplicate, and a compensation leaves a tombstone when the step had not acted.
 */
function outside(db: Database, script: Script) {
  const call = async (ctx: StepContext<unknown>, kind: string, step: string): Promise<StatusOutcome> => {
    const behaviour = await script(`${kind} ${step}`, ctx);
    if (behaviour === 'hang') await new Promise(() => {});
    if (behaviour === 'time out') throw away();
    const outcome = kind === 'query' ? await status(ctx, step) : await act(ctx, kind, step, behaviour === 'refuse');
    if (behaviour === 'act, then time out') throw away();
    return outcome;
  };
  const act = async (ctx: StepContext<unknown>, kind: string, step: string, refuse: boolean): Promise<StatusOutcome> =>
    db.write(null, async (sql) => {
      const { sagaId, key } = ctx;
      await sql.execute(
        `insert into effect (effect_key, saga_id, step, kind, outcome, calls)
         select ?, ?, ?, ?, if(? = 1 or exists (select 1 from effect as other
           where other.saga_id = ? and other.step = ? and other.kind = 'compensate' and ? = 'run'), 'rejected', 'done'), 1
         on duplicate key update calls = calls + 1`,
        [key, sagaId, step, kind, refuse ? 1 : 0, sagaId, step, kind],
      );
      const [row] = await sql.query<{ outcome: string }>('select outcome from effect where effect_key = ?', [key]);
      return row?.outcome === 'done' ? done({ by: key }) : rejected('REFUSED', 'as told');
    });
  const status = async ({ runKey }: StepContext<unknown>, step: string): Promise<StatusOutcome> => {
    const [row] = await db.read(null, (sql) =>
      sql.query<{ outcome: string }>('select outcome from effect where effect_key = ? and step = ?', [runKey, step]),
    );
    if (!row) return { kind: 'absent' };
    return row.outcome === 'done' ? done({ by: runKey }) : rejected('REFUSED', 'as told');
  };
  return call;
}

export interface CheckoutOptions {
  name?: string;
  script?: Script;
  /** What the local pivot does besides its fact. */
  confirm?: () => void;
  version?: number;
  timeLimitMs?: number;
  retry?: Partial<RetryPolicy>;
  /** Long, so that nothing times out on a busy machine; short where a call must hang. */
  timeoutMs?: number;
}

/** reserve, authorize, confirm (pivot, local), capture, complete (local); each writes a fact beside its outcome. */
export function checkout(db: Database, options: CheckoutOptions = {}): SagaDefinition<{ note: string }> {
  const call = outside(db, options.script ?? (() => 'work'));
  const fact = (sql: Parameters<NonNullable<RemoteStep<unknown>['record']>>[0], sagaId: string, what: string) =>
    sql.execute('insert into fact (saga_id, what) values (?, ?)', [sagaId, what]);
  const remote = (name: string): RemoteStep<{ note: string }> => ({
    name,
    timeoutMs: options.timeoutMs ?? 5_000,
    run: (ctx) => call(ctx, 'run', name) as ReturnType<RemoteStep<unknown>['run']>,
    query: (ctx) => call(ctx, 'query', name),
    async record(tx, { sagaId }, outcome) {
      await fact(
        tx,
        sagaId,
        `${name} ${outcome.kind}${outcome.kind === 'compensated' && !outcome.acted ? ' absent' : ''}`,
      );
    },
  });
  const undoable = (name: string): RemoteStep<{ note: string }> => ({
    ...remote(name),
    compensateAbsent: true,
    async compensate(ctx) {
      const outcome = await call(ctx, 'compensate', name);
      if (outcome.kind === 'rejected') throw new RpcError('FAILED_PRECONDITION', outcome.reason, outcome.detail);
      return null;
    },
  });
  return defineSaga<{ note: string }>({
    name: options.name ?? 'checkout',
    version: options.version ?? 1,
    timeLimitMs: options.timeLimitMs ?? 30_000,
    retry: { initialBackoffMs: 20, maxBackoffMs: 200, maxElapsedMs: 60_000, ...options.retry },
    steps: [
      undoable('reserve'),
      undoable('authorize'),
      {
        name: 'confirm',
        local: true,
        pivot: true,
        async record(tx, { sagaId }) {
          await fact(tx, sagaId, 'confirmed');
          options.confirm?.();
        },
      },
      remote('capture'),
      {
        name: 'complete',
        local: true,
        async record(tx, { sagaId }) {
          await fact(tx, sagaId, 'complete');
        },
      },
    ],
    async finished(tx, { sagaId }, result) {
      await fact(tx, sagaId, result.kind === 'completed' ? 'end' : `end ${result.failure.cause}`);
    },
  });
}

export interface SagaSchema {
  db: Database;
  registry: Registry;
  /** For programs in their own process. */
  url: string;
  sql<Row>(text: string, params?: (string | number | string[])[]): Promise<Row[]>;
  /** Starts a saga in its own transaction and returns its id. */
  start<Data = { note: string }>(definition: SagaDefinition<Data>, subjectId?: string, data?: Data): Promise<string>;
  worker(definitions: SagaDefinition[], options?: Partial<SagaWorkerOptions>): SagaWorker & { registry: Registry };
  /** Waits until the sagas rest; returns their status. */
  rest(ids: readonly string[], timeoutMs?: number): Promise<string[]>;
  facts(id: string): Promise<string[]>;
  /** The calls that had an effect, such as "run reserve", in order. */
  effects(id: string): Promise<string[]>;
  /** Replays the recorded history of every saga and returns those whose state differs from the result. */
  misplayed(definition: SagaDefinition): Promise<string[]>;
}

/** For tests that wait for leases to expire: short steps, short leases. */
export const hasty = { timeoutMs: 150, leaseMs: 1_200 };

/** Prepares an empty schema for sagas, with a table for the simulated services and one for facts. */
export async function openSchema(t: Teardown, database: EmptySchema): Promise<SagaSchema> {
  await migrate(database.migratorUrl, [
    Migration20261101000002_saga,
    Migration20261127000000_saga_versions,
    Migration20261127300000_saga_retention,
    Migration20261127310000_saga_overdue,
    Migration20261127320000_saga_secrets,
  ]);
  const admin = await openDatabase({ url: database.adminUrl, log, registry: new Registry() });
  await admin.write(null, (sql) =>
    sql.execute(`create table effect (position bigint auto_increment primary key, effect_key char(36) unique,
      saga_id char(36), step varchar(32), kind varchar(16), outcome varchar(16), calls int, key (saga_id, step))`),
  );
  await admin.write(null, (sql) =>
    sql.execute(
      'create table fact (position bigint auto_increment primary key, saga_id char(36), what varchar(64), key (saga_id))',
    ),
  );
  await admin.close();
  await database.migrated();
  const registry = new Registry();
  const db = await openDatabase({ url: database.url, log, registry, poolMax: 12 });
  // Statements of the test itself are not among the transactions that its registry counts.
  const ownDb = await openDatabase({ url: database.url, log, registry: new Registry() });
  t.teardown(() => Promise.all([db.close(), ownDb.close()]));
  return schemaOf(t, { db, ownDb }, registry, database.url);
}

function schemaOf(
  t: Teardown,
  { db, ownDb }: { db: Database; ownDb: Database },
  registry: Registry,
  url: string,
): SagaSchema {
  const sql: SagaSchema['sql'] = async <Row>(text: string, params: (string | number | string[])[] = []) => {
    const call = open('test', 10_000);
    try {
      return await ownDb.transaction(call, (tx) => tx.query<Row>(text, params));
    } finally {
      call.close();
    }
  };
  return {
    ...{ db, registry, url, sql },
    async start<Data>(definition: SagaDefinition<Data>, subjectId = newId(), data = { note: "'?:a'" } as Data) {
      const call = open('start', 10_000);
      const sagaId = newId();
      await db.transaction(call, (tx) => startSaga(tx, definition, { sagaId, subjectId, data }));
      call.close();
      return sagaId;
    },
    worker(definitions, options = {}) {
      const own = new Registry();
      const worker = startSagaWorker({
        db,
        definitions,
        log,
        registry: own,
        background: open,
        pollMs: 50,
        ...options,
      });
      t.teardown(() => worker.stop());
      return { ...worker, registry: own };
    },
    async rest(ids, timeoutMs = 20_000) {
      const until = Date.now() + timeoutMs;
      for (;;) {
        const rows = await sql<{ saga_id: string; status: string; due_at: string | null }>(
          'select saga_id, status, due_at from saga where saga_id in (?)',
          [[...ids]],
        );
        if (rows.every(({ due_at }) => due_at === null)) {
          const statuses = new Map(rows.map((row) => [row.saga_id, row.status]));
          return ids.map((id) => statuses.get(id) ?? 'MISSING');
        }
        if (Date.now() > until)
          throw new Error(`not at rest within ${timeoutMs} ms: ${JSON.stringify(rows.slice(0, 5))}`);
        await new Promise((resolve) => setTimeout(resolve, 15));
      }
    },
    async facts(id) {
      const rows = await sql<{ what: string }>('select what from fact where saga_id = ? order by position', [id]);
      return rows.map(({ what }) => what);
    },
    async effects(id) {
      const rows = await sql<{ kind: string; step: string }>(
        "select kind, step from effect where saga_id = ? and outcome = 'done' order by position",
        [id],
      );
      return rows.map(({ kind, step }) => `${kind} ${step}`);
    },
    async misplayed(definition) {
      const sagas = await sql<{ saga_id: string; state: string }>('select saga_id, state from saga where name = ?', [
        definition.name,
      ]);
      const entries = await sql<{ saga_id: string; detail: string }>(
        'select saga_id, detail from saga_log join saga using (saga_id) where name = ? order by saga_id, position',
        [definition.name],
      );
      const states = new Map<string, State>();
      for (const { saga_id, detail } of entries) {
        const state = states.get(saga_id) ?? begin(definition.core);
        states.set(saga_id, advance(definition.core, state, JSON.parse(detail) as Input));
      }
      const replayed = (id: string) => JSON.stringify(states.get(id) ?? begin(definition.core));
      return sagas.filter(({ saga_id, state }) => replayed(saga_id) !== state).map(({ saga_id }) => saga_id);
    },
  };
}
