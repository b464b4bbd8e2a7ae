// Cold start test: kills all processes at once, starts them in random order, and checks that the shop recovers.
import { setTimeout as sleep } from 'node:timers/promises';
import { openClientSets } from '../../e2e/shop.ts';
import type { Teardown } from '../../support/infra.ts';
import { type Random, seeded } from '../../support/random.ts';
import { recordSagas, sagasDiverging } from './histories.ts';
import { type CrashMesh, type ProcessListener, startCrashMesh, type Victim } from './mesh.ts';
import { allReady, settings, waitUntilClean } from './run.ts';
import { openWorkload, type Workload } from './workload.ts';

export interface ColdStartOptions {
  rounds: number;
  seed: number;
  customers?: number;
  /** Whether the saga histories of each clean round are added to the recordings in the repository. */
  record?: boolean;
  say?: (line: string) => void;
}

/** One kill of all processes and the recovery after it. Times are milliseconds since the start of the last process. */
export interface Round {
  /** Orders that had not ended at the kill. */
  readonly underWay: number;
  /** The order of the starts with the pauses between them, milliseconds: 'broker +300 orders …'. */
  readonly order: string;
  readonly readyMs: number;
  /** Until every invariant held and no response to a customer was contradicted; null if that never happened. */
  readonly cleanMs: number | null;
  /** Processes that exited by themselves, with their last log lines. */
  readonly exits: readonly string[];
}

/** Content of .run/cold-start.json. */
export interface ColdStartReport {
  seed: number;
  rounds: Round[];
  /** Orders by story and end. */
  orders: Record<string, number>;
  violations: string[];
}

/** Between two starts. With ten processes to start, the last may start fifteen seconds after the first. */
const pauseMaxMs = 1_500;
/** Long enough that orders are at every saga step when the kill comes. */
const workingMs = { low: 2_000, high: 6_000 };

/**
 * Repeats `rounds` times: kills every service, the database and the broker at once while customers place orders, starts
 * them in random order, then checks the invariants and the responses that customers received. A process that exits by
 * itself is a violation. A service must wait for any dependency that is away, for any time, and become ready as soon as
 * it is back. Otherwise the recovery time would depend on the supervisor's restart delay.
 */
export async function coldStarts(t: Teardown, options: ColdStartOptions): Promise<ColdStartReport> {
  const { rounds: count, seed, customers = 12, record = false, say = () => undefined } = options;
  const random = seeded(seed);
  const exits = exitsSeen();
  const mesh = await startCrashMesh(t, exits, (name) => ({ env: settings[name] }));
  await allReady(mesh);
  const workload = await openWorkload(t, await openClientSets(t, mesh.grpcOf), mesh, random);
  say(`everything runs; ${customers} customers, ${count} rounds, seed ${seed}`);
  const rounds: Round[] = [];
  const violations: string[] = [];
  while (rounds.length < count && violations.length === 0) {
    const { round, wrong } = await coldStart(mesh, workload, random, customers, exits);
    rounds.push(round);
    const name = `round ${rounds.length}`;
    violations.push(
      ...[...wrong, ...round.exits.map((exit) => `ended by itself: ${exit}`)].map((one) => `${name}: ${one}`),
    );
    const { underWay, order, readyMs, cleanMs } = round;
    say(`${name}: ${underWay} orders under way, ready after ${readyMs} ms, clean after ${cleanMs ?? '-'} ms: ${order}`);
    if (record && violations.length === 0) say(`recorded ${JSON.stringify(await mesh.inspect(recordSagas))}`);
  }
  const orders = await mesh.inspect((shopData) => workload.responses.outcomes(shopData));
  await mesh.stop();
  return { seed, rounds, orders, violations };
}

/** Records processes that exited by themselves, until `take` returns and clears the list. */
function exitsSeen(): ProcessListener & { take(): string[] } {
  let seen: string[] = [];
  return {
    ended({ name }, { signal, words }) {
      if (!signal) seen.push(`${name} (${words})`);
    },
    ready: () => undefined,
    take() {
      const taken = seen;
      seen = [];
      return taken;
    },
  };
}

async function coldStart(
  mesh: CrashMesh,
  workload: Workload,
  random: Random,
  customers: number,
  exits: ReturnType<typeof exitsSeen>,
): Promise<{ round: Round; wrong: string[] }> {
  const over = new AbortController();
  const working = workload.run(customers, over.signal);
  await sleep(random.between(workingMs.low, workingMs.high));
  const underWay = await ordersUnderWay(mesh);
  await killAll(mesh);
  over.abort();
  const { order, started } = await startAll(mesh, random);
  const since = performance.now();
  await started;
  await allReady(mesh);
  const readyMs = Math.round(performance.now() - since);
  await working;
  const { cleanAfterMs: cleanMs, violations: wrong } = await waitUntilClean(mesh, since, async (shopData) => [
    ...(await workload.responses.contradictions(shopData)),
    ...(await sagasDiverging(shopData)),
  ]);
  return { round: { underWay, order, readyMs, cleanMs, exits: exits.take() }, wrong };
}

async function ordersUnderWay(mesh: CrashMesh): Promise<number> {
  const [row] = await mesh.inspect((shopData) =>
    shopData.query<{ n: number | string }>(
      `select count(*) as n from {orders}.orders where state not in ('COMPLETED', 'REJECTED', 'CANCELLED')`,
    ),
  );
  return Number(row?.n);
}

/** Sends every signal before a process can notice that another has ended, then waits until all have ended. */
async function killAll({ victims, servers }: CrashMesh): Promise<void> {
  for (const victim of victims) {
    victim.delayRestart();
    victim.kill();
  }
  await Promise.all([servers.database.kill(), servers.broker.kill()]);
  while (victims.some((victim: Victim) => victim.pid !== undefined)) await sleep(10);
}

/**
 * Starts all processes one after another, whether or not their dependencies are up. `started` resolves when the
 * database and the broker accept connections.
 */
async function startAll(
  { victims, servers }: CrashMesh,
  random: Random,
): Promise<{ order: string; started: Promise<unknown> }> {
  const all: [string, () => unknown][] = [
    ...Object.entries(servers).map(([name, server]): [string, () => unknown] => [name, () => server.start()]),
    ...victims.map((victim): [string, () => unknown] => [victim.name, () => victim.revive()]),
  ];
  const words: string[] = [];
  const starts: unknown[] = [];
  while (all.length > 0) {
    const [[name, start]] = all.splice(random.between(0, all.length - 1), 1) as [[string, () => unknown]];
    if (words.length > 0) {
      const pauseMs = random.between(0, pauseMaxMs);
      words.push(`+${pauseMs}`);
      await sleep(pauseMs);
    }
    words.push(name);
    starts.push(start());
  }
  return { order: words.join(' '), started: Promise.all(starts) };
}
