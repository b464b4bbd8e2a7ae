import { sleep } from '@armature/runtime/time';
import type { Random } from '../../support/random.ts';
import type { CrashMesh, ProcessListener, Victim } from './mesh.ts';
import { pointsOf } from './points.ts';

/**
 * How a process ended: the name of a crash point, 'moment' for a signal at a random time, 'gave up' for an exit of its
 * own.
 */
export interface Kill {
  readonly who: string;
  readonly how: string;
  /** Milliseconds until the process was ready again; undefined while it is not. */
  recoveredAfterMs?: number;
}

export interface ChaosOptions {
  random: Random;
  /** Planned duration of the run. Members that are killed seldom are killed a few times within it. */
  durationMs: number;
  /** Names of the crash points to use. */
  points: readonly string[];
  /** How often a crash point may be passed before it kills, by prefix of its name; `passesMax` by default. */
  passes?: Readonly<Record<string, number>>;
  /** The servers to kill, in turn; both by default. */
  servers?: readonly ('database' | 'broker')[];
  /**
   * Variables of a service with their possible values. Each process gets one value of each at random. This simulates a
   * deployment, forward or back, at every restart.
   */
  deployments?: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>;
  /** Factor on the lifetime of processes, 1 by default. */
  calm?: number;
}

/**
 * Kills services, the database and the broker until it is stopped. Each process of a service with crash points is armed
 * with the least visited one, and gets SIGKILL if it outlives its maximum lifetime. A service whose crash points have
 * all been visited more often than those of others lives longer, so that the others get the CPU time. Services without
 * crash points are killed at random moments, less often.
 */
export interface Chaos extends ProcessListener {
  readonly kills: readonly Kill[];
  /** Kills until `over` aborts. Resolves when the database and the broker run again; services may still be starting. */
  killUntil(mesh: CrashMesh, over: AbortSignal): Promise<void>;
  /** Kills every process at once and restarts all of them, unarmed. Resolves when everything is ready. */
  restartAll(mesh: CrashMesh): Promise<void>;
}

/** An armed process that has not reached its crash point by then is killed; rarely passed points get longer. */
const armedLifeMs = { low: 12_000, high: 16_000 };
const rareLifeMs = { low: 20_000, high: 25_000 };
/** Share of processes that are not armed, and are killed at a random moment instead. */
const unarmedShare = 0.03;
/** Share of processes that are killed before they are ready. */
const stillbornShare = 0.02;
const unarmedLifeMs = { low: 0, high: 4_000 };
/**
 * By how many visits a point may be ahead. For each visit more, it must be passed `aheadPasses` times as often before
 * it kills.
 */
const aheadMost = 1;
const aheadPasses = 8;
/** Points that are passed many times a second do not kill at the first pass. */
const passesMax: Readonly<Record<string, number>> = {
  'saga.': 4,
  'relay.': 2,
  // Only a webhook that arrives before every other report of the result completes an operation.
  'payments.webhook': 1,
  'payments.': 2,
  'place-order.': 3,
};

export function chaos(options: ChaosOptions): Chaos {
  const { random, durationMs, points, passes = passesMax, servers = ['database', 'broker'], calm = 1 } = options;
  const { deployments = {} } = options;
  const log = openKillLog();
  const visits = new Map<string, number>(points.map((point) => [point, 0]));
  const lives = new Map<string, { low: number; high: number }>();
  const pending = new Map<string, NodeJS.Timeout>();
  let raging = false;

  const usable = (name: string) => (pointsOf[name] ?? []).filter((point) => points.includes(point));
  const later = (victim: Victim, afterMs: number, act: () => void) => {
    clearTimeout(pending.get(victim.name));
    pending.set(victim.name, setTimeout(act, afterMs));
  };
  /** Returns the least visited point; a random one of them if there are several. */
  const choose = (name: string): string | null => {
    const mine = usable(name);
    if (mine.length === 0) return null;
    const least = Math.min(...mine.map((point) => visits.get(point)!));
    return random.pick(mine.filter((point) => visits.get(point) === least));
  };
  const prepare = (victim: Victim): { low: number; high: number } => {
    const point = choose(victim.name);
    victim.arm('');
    for (const [name, values] of Object.entries(deployments[victim.name] ?? {}))
      victim.deploy({ [name]: random.pick(values) });
    if (!point) return { low: durationMs / 6, high: durationMs / 2 };
    if (random.next() < unarmedShare) return unarmedLifeMs;
    const [, most = 1] = Object.entries(passes).find(([prefix]) => point.startsWith(prefix)) ?? [];
    const lead = visits.get(point)! - Math.min(...visits.values());
    const ahead = lead > aheadMost;
    victim.arm(`${point}:${random.between(1, most) * (ahead ? aheadPasses * lead : 1)}`);
    return ahead || /^(relay|periodic-job|payments\.webhook)/.test(point) ? rareLifeMs : armedLifeMs;
  };
  const live = (victim: Victim, life: { low: number; high: number }) =>
    later(victim, calm * random.between(life.low, life.high), () => victim.kill());

  return {
    kills: log.kills,
    ended(victim, { signal, point }) {
      log.note(victim.name, point ?? (signal ? 'moment' : 'gave up'));
      if (point) visits.set(point, (visits.get(point) ?? 0) + 1);
      if (!raging) return;
      lives.set(victim.name, prepare(victim));
      // A process that exited by itself waits for the supervisor's restart delay: a dependency is not ready yet.
      if (!signal) return;
      later(victim, random.between(0, 100), () => {
        victim.revive();
        if (random.next() < stillbornShare) later(victim, random.between(100, 1_500), () => victim.kill());
      });
    },
    ready(victim) {
      log.recovered(victim.name);
      const life = lives.get(victim.name);
      if (raging && life) live(victim, life);
    },
    async killUntil(mesh, over) {
      raging = true;
      for (const victim of mesh.victims) {
        // Processes that run already are not armed. Each is killed by a signal the first time.
        live(victim, usable(victim.name).length > 0 ? { low: 0, high: 2_000 } : prepare(victim));
      }
      await killServers({ mesh, log, random, durationMs, servers }, over);
      raging = false;
      for (const timer of pending.values()) clearTimeout(timer);
    },
    async restartAll(mesh) {
      const { database, broker } = mesh.servers;
      for (const victim of mesh.victims) {
        victim.arm('');
        victim.kill();
      }
      await Promise.all([database.kill(), broker.kill()]);
      await Promise.all([
        log.timed('database', 'everything at once', () => database.start()),
        log.timed('broker', 'everything at once', () => broker.start()),
      ]);
      await startAllWaiting(mesh);
    },
  };
}

/** The kills of a run. Each gets the time of its recovery once the process or server is ready again. */
interface KillLog {
  readonly kills: Kill[];
  note(who: string, how: string): void;
  recovered(who: string): void;
  /** Records a kill whose recovery is `start`. */
  timed(who: string, how: string, start: () => Promise<void>): Promise<void>;
}

function openKillLog(): KillLog {
  const kills: Kill[] = [];
  const open = new Map<string, { kill: Kill; since: number }>();
  const log: KillLog = {
    kills,
    note(who, how) {
      const kill: Kill = { who, how };
      kills.push(kill);
      open.set(who, { kill, since: performance.now() });
    },
    recovered(who) {
      const last = open.get(who);
      if (last) last.kill.recoveredAfterMs = Math.round(performance.now() - last.since);
      open.delete(who);
    },
    async timed(who, how, start) {
      log.note(who, how);
      await start();
      log.recovered(who);
    },
  };
  return log;
}

/** Kills the servers in turn until `over` aborts. */
async function killServers(
  {
    mesh,
    log,
    random,
    durationMs,
    servers,
  }: Required<Pick<ChaosOptions, 'random' | 'durationMs' | 'servers'>> & {
    mesh: CrashMesh;
    log: KillLog;
  },
  over: AbortSignal,
): Promise<void> {
  // A broker needs about ten seconds to restart. Killed more often, its clients would never be ready.
  const everyMs = Math.max(7_000, Math.min(45_000, durationMs / 4));
  for (let turn = 0; ; turn++) {
    await sleep(everyMs * (0.75 + random.next() / 2), over);
    if (over.aborted) return;
    const name = servers[turn % servers.length]!;
    await mesh.servers[name].kill();
    await log.timed(name, 'moment', async () => {
      await sleep(random.between(0, 2_000));
      await mesh.servers[name].start();
    });
  }
}

/** Starts every process that waits for its restart delay, as `make up` does. */
async function startAllWaiting(mesh: CrashMesh): Promise<void> {
  const deadline = performance.now() + 120_000;
  // The supervisor may still report a process that was just killed as ready, so wait until it has noticed.
  await sleep(200);
  while (mesh.victims.some((victim) => !victim.ready)) {
    const waiting = mesh.victims.filter((victim) => !victim.ready).map(({ name }) => name);
    if (performance.now() > deadline) throw new Error(`not ready within 120 s: ${waiting.join(', ')}`);
    for (const victim of mesh.victims) victim.revive();
    await sleep(1_000);
  }
}
