import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { restartDelayMs } from './backoff.ts';
import { type LivenessLimits, livenessLimits, watchLiveness } from './liveness.ts';
import type { MeshService } from './mesh.ts';
import { identify, parentOf } from './processes.ts';
import { readJson } from './state.ts';

/** A service that has been ready for this long has recovered: its next crash counts as the first. */
const recoveredAfterMs = 30_000;
const readinessPollMs = 50;
/** A watched program may be started again at any moment. */
const watchedPollMs = 250;
const stopGraceMs = 12_000;

/** How to run one service. */
export interface ServiceProgram {
  name: string;
  args: string[];
  cwd: string;
  env: Record<string, string>;
  stateFile: string;
  log: string;
  addresses: Pick<MeshService, 'grpc' | 'admin' | 'http'>;
  /** Whether Node watches the code and starts the program again at each change (`node --watch`). */
  watch?: boolean;
}

export interface Supervised {
  readonly service: MeshService;
  /** Starts at once what waits for its restart; leaves alone what runs. */
  nudge(): void;
  /**
   * Ends the process and starts it again, as `next` says where that is given. Restarts of one service happen one after
   * another. Resolves when the new process is ready (one that watches its code: when it is started), and rejects when it
   * ends before; it is then tried again with delays as usual.
   */
  restart(next?: ServiceProgram): Promise<void>;
  /** Ends the process and waits; it is not started again. */
  stop(): Promise<void>;
}

export interface Watcher {
  /** Called after every change of `service`, with a line for people when there is something to say. */
  changed(line?: string): void;
}

/** How a service is kept running; the defaults are for development. */
export interface SupervisionLimits {
  /** How long to wait after the n-th end in a row. */
  delayMs?: (failures: number) => number;
  liveness?: LivenessLimits;
}

/**
 * Keeps one service running: starts it, waits until it is ready, and starts it again with growing delays when it ends.
 * One that hangs is ended by SIGKILL, unless it is watched: a person who develops it may have stopped it in a debugger.
 */
export function supervise(
  first: ServiceProgram,
  watcher: Watcher,
  { delayMs = restartDelayMs, liveness = livenessLimits() }: SupervisionLimits = {},
): Supervised {
  const service: MeshService = { name: first.name, ...first.addresses, state: 'starting', restarts: 0 };
  let program = first;
  let running: RunningProcess;
  let lastRestart: Promise<void> = Promise.resolve();
  let stopping = false;
  /** While a restart is wanted, the end of the process is no failure. */
  let restarting = false;

  const start = () => {
    running = startProcess({ program, service, watcher, liveness }, ended);
    watcher.changed();
  };
  const schedule = restartSchedule(start, delayMs);

  const ended = (how: string, readyForMs: number) => {
    if (stopping) {
      service.state = 'stopped';
      watcher.changed(`${service.name} stopped (${how})`);
    } else if (restarting) {
      service.state = 'restarting';
      watcher.changed(`${service.name} ended (${how}) to be restarted`);
    } else {
      service.state = 'restarting';
      service.restarts++;
      const pauseMs = schedule.plan(readyForMs);
      watcher.changed(
        `${service.name} ended (${how}); restart ${service.restarts} in ${pauseMs} ms, its log is ${program.log}`,
      );
    }
  };

  const restartNow = async (next: ServiceProgram) => {
    if (stopping) throw new Error(`${service.name} is being stopped`);
    schedule.reset();
    restarting = true;
    service.state = 'restarting';
    watcher.changed(`${service.name} is restarted on request`);
    try {
      await running.end();
      if (stopping) throw new Error(`${service.name} is being stopped`);
      program = next;
      start();
    } finally {
      restarting = false;
    }
    if (!program.watch) await running.ready;
  };

  start();
  return {
    service,
    nudge() {
      if (schedule.reset()) start();
    },
    restart(next = program) {
      const restarted = lastRestart.then(() => restartNow(next));
      lastRestart = restarted.catch(() => undefined);
      return restarted;
    },
    async stop() {
      stopping = true;
      schedule.reset();
      service.state = 'stopped';
      await running.end();
    },
  };
}

interface RestartSchedule {
  /** Starts after the delay that is due, which it returns. `readyForMs` says for how long the last process was ready. */
  plan(readyForMs: number): number;
  /** Cancels a planned start and forgets earlier failures. Returns whether a start was planned. */
  reset(): boolean;
}

/** When a service is started again after a failure: `delayMs` is called with the number of failures in a row. */
function restartSchedule(start: () => void, delayMs: (failures: number) => number): RestartSchedule {
  let failuresInARow = 0;
  let planned: NodeJS.Timeout | undefined;
  return {
    plan(readyForMs) {
      failuresInARow = readyForMs > recoveredAfterMs ? 1 : failuresInARow + 1;
      const pauseMs = delayMs(failuresInARow);
      planned = setTimeout(() => {
        planned = undefined;
        start();
      }, pauseMs);
      return pauseMs;
    },
    reset() {
      const wasPlanned = planned !== undefined;
      clearTimeout(planned);
      planned = undefined;
      failuresInARow = 0;
      return wasPlanned;
    },
  };
}

/** One process of a service, from its start to its end. */
interface RunningProcess {
  /** Resolves when the process is ready, and rejects if it ends before. */
  readonly ready: Promise<void>;
  /** Sends SIGTERM, SIGKILL after 12 s, and waits for the end. */
  end(): Promise<void>;
}

interface Starting {
  program: ServiceProgram;
  service: MeshService;
  watcher: Watcher;
  liveness: LivenessLimits;
}

/**
 * Starts a process and records in `service` its pid and whether it is ready. When it ends, `ended` is called with how,
 * and for how long it had been ready.
 */
function startProcess(
  { program, service, watcher, liveness }: Starting,
  ended: (how: string, readyForMs: number) => void,
): RunningProcess {
  mkdirSync(dirname(program.stateFile), { recursive: true });
  rmSync(program.stateFile, { force: true });
  const child = spawnLogged(program);
  Object.assign(service, {
    pid: child.pid,
    started: child.pid && identify(child.pid)?.started,
    state: 'starting',
    watching: program.watch,
  });
  const ready = Promise.withResolvers<void>();
  // Only a restart on request waits for it.
  ready.promise.catch(() => undefined);
  const readiness = watchReadiness(program, child, (now) => {
    service.state = now;
    watcher.changed(now === 'ready' ? `${service.name} is ready (pid ${service.pid})` : undefined);
    if (now === 'ready') ready.resolve();
  });
  let hungBecause = '';
  const hung = (why: string) => {
    hungBecause = `${why}, `;
    terminate(child, 'SIGKILL', program);
  };
  // Until a process says that it is ready, its admin port need not be open.
  const address = () => (service.state === 'ready' ? (program.addresses.admin ?? program.addresses.http) : undefined);
  const life =
    child.pid === undefined || program.watch ? undefined : watchLiveness({ pid: child.pid, address }, liveness, hung);
  const end = Promise.withResolvers<void>();
  const onEnd = (reason: string) => {
    const how = `${hungBecause}${reason}`;
    life?.stop();
    const readyForMs = readiness.stop();
    delete service.pid;
    delete service.started;
    service.lastEnd = how;
    ready.reject(new Error(`${service.name} ended before it was ready (${how}); its log is ${program.log}`));
    ended(how, readyForMs);
    end.resolve();
  };
  child.once('error', (error) => onEnd(error.message));
  child.once('exit', (code, signal) => onEnd(signal ? `ended by ${signal}` : `exit code ${code}`));
  return {
    ready: ready.promise,
    async end() {
      terminate(child, 'SIGTERM', program);
      const force = setTimeout(() => terminate(child, 'SIGKILL', program), stopGraceMs);
      await end.promise;
      clearTimeout(force);
    },
  };
}

function spawnLogged({ args, cwd, env, log, watch = false }: ServiceProgram): ChildProcess {
  mkdirSync(dirname(log), { recursive: true });
  const output = openSync(log, 'a', 0o600);
  const all = watch ? ['--watch', '--watch-preserve-output', ...args] : args;
  try {
    // A watching Node has the program as its child, so that both are ended by force as one group.
    return spawn(process.execPath, all, { cwd, env, stdio: ['ignore', output, output], detached: watch });
  } finally {
    closeSync(output);
  }
}

/** Sends a signal. A watching Node passes SIGTERM on to the program, but not SIGKILL. */
function terminate(child: ChildProcess, name: 'SIGTERM' | 'SIGKILL', { watch = false }: ServiceProgram): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  if (watch && name === 'SIGKILL') process.kill(-child.pid, name);
  else child.kill(name);
  // A process that is stopped takes SIGTERM only when it goes on; others ignore this. Whether it is stopped cannot be
  // asked: a signal takes effect some time after it was sent.
  if (name === 'SIGTERM') child.kill('SIGCONT');
}

/**
 * Calls `changed` with 'ready' once the program has said so itself; for a program that is watched, also with 'starting'
 * when it is ready no more. `stop` returns for how long it had been ready.
 */
function watchReadiness(
  program: ServiceProgram,
  child: ChildProcess,
  changed: (state: 'ready' | 'starting') => void,
): { stop(): number } {
  let stopped = false;
  let readySince: number | undefined;
  let readyPid: number | undefined;
  const look = async () => {
    const pid = await pidIfReady(program, child.pid);
    if (stopped) return;
    if (pid !== readyPid) {
      // A watched program that starts within one interval is another process, which was not ready before.
      if (readyPid !== undefined) changed('starting');
      readyPid = pid;
      readySince = pid === undefined ? undefined : Date.now();
      if (pid !== undefined) changed('ready');
    }
    const ready = pid !== undefined;
    if (!ready || program.watch) setTimeout(look, ready ? watchedPollMs : readinessPollMs);
  };
  void look();
  return {
    stop() {
      stopped = true;
      return readySince === undefined ? 0 : Date.now() - readySince;
    },
  };
}

/**
 * The pid of the service's own process when it is ready: the state file carries it, it belongs to the process that was
 * started here, and the admin port, where there is one, says so too.
 */
async function pidIfReady(
  { stateFile, addresses, watch }: ServiceProgram,
  pid: number | undefined,
): Promise<number | undefined> {
  const written = readJson<{ pid: number }>(stateFile)?.pid;
  if (pid === undefined || written === undefined) return undefined;
  // A watching Node has the program as its child.
  if ((watch ? parentOf(written) : written) !== pid) return undefined;
  if (!addresses.admin) return written;
  try {
    const response = await fetch(`http://${addresses.admin}/readyz`, { signal: AbortSignal.timeout(2_000) });
    await response.arrayBuffer();
    return response.status === 200 ? written : undefined;
  } catch {
    // Not listening yet, or just gone: the end of the process is noticed elsewhere.
    return undefined;
  }
}
