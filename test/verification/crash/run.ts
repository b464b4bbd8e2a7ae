import { setTimeout as sleep } from 'node:timers/promises';
import { openClientSets } from '../../e2e/shop.ts';
import type { Teardown } from '../../support/infra.ts';
import { seeded } from '../../support/random.ts';
import { broken, verify } from '../invariants/invariants.ts';
import type { ShopData } from '../invariants/shop-data.ts';
import { chaos, type Kill } from './chaos.ts';
import { recordSagas, sagasDiverging } from './histories.ts';
import { type CrashMesh, startCrashMesh } from './mesh.ts';
import { allPoints } from './points.ts';
import { openWorkload, type Workload } from './workload.ts';

export interface CrashOptions {
  seconds: number;
  seed: number;
  /** Crash points to use; all of them by default. */
  points?: readonly string[];
  customers?: number;
  /** Whether the saga histories of this run are added to the recordings in the repository, if it ends clean. */
  record?: boolean;
  say?: (line: string) => void;
}

/** Content of .run/crash.json. */
export interface CrashReport {
  seed: number;
  seconds: number;
  /** Orders by story and end. */
  orders: Record<string, number>;
  /** Calls by method and code. */
  responses: Record<string, number>;
  kills: { total: number; byPoint: Record<string, number>; byProcess: Record<string, Record<string, number>> };
  /** Milliseconds from a kill until the process was ready again. */
  recoveryMs: Record<string, { count: number; median: number; max: number }>;
  /** Crash points at which no process was killed. */
  unvisited: string[];
  /** From the moment that everything ran again until every invariant held; null if that never happened. */
  cleanAfterMs: number | null;
  violations: string[];
}

/** All invariants must hold within this time after everything was restarted. */
export const cleanWithinMs = 60_000;
/**
 * A relay that is killed blocks its successor from publishing until its lease expires. A short lease lets the run visit
 * more points. A small pool makes starts faster, because connecting takes much of a start.
 */
const victim = { ARMATURE_RELAY_LEASE_MS: '1500', ARMATURE_DATABASE_POOL_MAX: '6' };
/**
 * Time limits of orders. Stock is reserved for longer than an order may take to be confirmed, so that its units are
 * still there.
 */
export const settings: Partial<Record<string, Record<string, string>>> = {
  orders: { ...victim, ARMATURE_CHECKOUT_LIMIT_MS: '30000' },
  inventory: { ...victim, ARMATURE_RESERVATION_TTL_MS: '60000', ARMATURE_EXPIRY_SWEEP_MS: '250' },
  payments: victim,
  notifications: { ...victim, ARMATURE_MAIL_RETRY_BASE_MS: '100' },
  // A late webhook still arrives while its order waits, and a webhook that was not accepted is sent again soon.
  acquirer: { ARMATURE_ACQUIRER_WEBHOOK_LATE_MS: '5000', ARMATURE_ACQUIRER_WEBHOOK_RETRY_MOST_MS: '2000' },
};

/** New sagas begin with the version that the process was started with. Sagas of the other version run beside them. */
const deployments = {
  orders: { ARMATURE_CHECKOUT_VERSION: ['1', '2'], ARMATURE_CANCELLATION_VERSION: ['1', '2'] },
};

/** Crash test: kills processes under load, restarts them, then checks the invariants and the responses to customers. */
export async function crash(t: Teardown, options: CrashOptions): Promise<CrashReport> {
  const { seconds, seed, points = allPoints, customers = 30, record = false, say = () => undefined } = options;
  const unknown = points.filter((point) => !allPoints.includes(point));
  if (unknown.length > 0) throw new Error(`unknown crash points: ${unknown.join(', ')}`);
  const random = seeded(seed);
  const storm = chaos({ random, durationMs: seconds * 1_000, points, deployments });
  const mesh = await startCrashMesh(t, storm, (name) => ({ env: settings[name] }));
  await allReady(mesh);
  const workload = await openWorkload(t, await openClientSets(t, mesh.grpcOf), mesh, random);
  say(`everything runs; ${customers} customers for ${seconds} s, seed ${seed}`);
  const over = new AbortController();
  const progress = setInterval(() => say(progressLine(workload, storm.kills)), 10_000);
  const working = workload.run(customers, over.signal);
  await storm.killUntil(mesh, AbortSignal.timeout(seconds * 1_000));
  over.abort();
  say('restart: kills all processes at once and starts them');
  await storm.restartAll(mesh);
  const restartedAt = performance.now();
  await working;
  clearInterval(progress);
  const contradictions = async (shopData: ShopData) => [
    ...(await workload.responses.contradictions(shopData)),
    ...(await sagasDiverging(shopData)),
  ];
  const { cleanAfterMs, violations } = await waitUntilClean(mesh, restartedAt, contradictions, say);
  if (record && violations.length === 0) say(`recorded ${JSON.stringify(await mesh.inspect(recordSagas))}`);
  const { orders, responses } = await mesh.inspect(async (shopData) => ({
    orders: await workload.responses.outcomes(shopData),
    responses: Object.fromEntries([...workload.responses.byCode].sort()),
  }));
  await mesh.stop();
  return { seed, seconds, orders, responses, ...sums(storm.kills, points), cleanAfterMs, violations };
}

function progressLine({ responses }: Workload, kills: readonly Kill[]): string {
  const ended = responses.notes.filter((note) => note.end).length;
  return `${responses.notes.length} orders accepted, ${ended} ended, ${kills.length} kills`;
}

/** Waits until every service is ready, or throws after 90 s. */
export async function allReady(mesh: CrashMesh): Promise<void> {
  const deadline = performance.now() + 90_000;
  while (mesh.victims.some((victim) => !victim.ready)) {
    if (performance.now() > deadline) throw new Error('the mesh did not become ready');
    await sleep(50);
  }
}

/**
 * Waits until every invariant holds and the state contradicts no response. What is still wrong 60 s after `since`, by
 * the monotonic clock, is a violation.
 */
export async function waitUntilClean(
  mesh: CrashMesh,
  since: number,
  contradictions: (shopData: ShopData) => Promise<string[]>,
  say: (line: string) => void = () => undefined,
): Promise<Pick<CrashReport, 'cleanAfterMs' | 'violations'>> {
  for (let told = ''; ; ) {
    const violations = await mesh.inspect(async (shopData) => [
      ...broken(await verify(shopData)),
      ...(await contradictions(shopData)),
    ]);
    const sinceMs = Math.round(performance.now() - since);
    if (violations.length === 0) return { cleanAfterMs: sinceMs, violations };
    if (sinceMs > cleanWithinMs)
      return { cleanAfterMs: null, violations: [...violations, ...(await unfinished(mesh))] };
    // Report the first violation even if it disappears in time.
    const first = violations[0]!.slice(0, 300);
    if (first !== told) say(`not clean yet, ${violations.length} violations, first ${first}`);
    told = first;
    await sleep(500);
  }
}

/** Returns the last steps of sagas that have not ended: the starting point for the analysis of a violation. */
async function unfinished(mesh: CrashMesh): Promise<string[]> {
  const steps = await mesh.inspect((shopData) =>
    shopData.query(
      `select s.subject_id, s.name, s.status, s.due_at, s.lease_holder, l.position, l.step, l.kind, l.outcome, l.attempt,
         l.detail, l.at, utc_timestamp(6) as now
       from {orders}.saga s left join {orders}.saga_log l on l.saga_id = s.saga_id
       where s.status not in ('COMPLETED', 'FAILED') order by s.saga_id, l.position desc limit 20`,
    ),
  );
  return steps.map((step) => `unfinished: ${JSON.stringify(step)}`);
}

/** Counts kills by point and by process, and recovery times by process. */
export function sums(
  kills: readonly Kill[],
  points: readonly string[],
): Pick<CrashReport, 'kills' | 'recoveryMs' | 'unvisited'> {
  const byPoint = Object.fromEntries(points.map((point) => [point, 0]));
  const byProcess: Record<string, Record<string, number>> = {};
  const times: Record<string, number[]> = {};
  for (const { who, how, recoveredAfterMs } of kills) {
    if (how in byPoint) byPoint[how] = byPoint[how]! + 1;
    byProcess[who] ??= {};
    byProcess[who][how] = (byProcess[who][how] ?? 0) + 1;
    if (recoveredAfterMs === undefined) continue;
    times[who] ??= [];
    times[who].push(recoveredAfterMs);
  }
  const recoveryMs = Object.fromEntries(
    Object.entries(times).map(([who, all]) => {
      const sorted = all.toSorted((a, b) => a - b);
      return [who, { count: all.length, median: sorted[all.length >> 1]!, max: sorted.at(-1)! }];
    }),
  );
  const unvisited = points.filter((point) => byPoint[point] === 0);
  return { kills: { total: kills.length, byPoint, byProcess }, recoveryMs, unvisited };
}
