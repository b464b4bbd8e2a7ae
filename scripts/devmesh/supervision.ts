import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { restartDelayMs } from './backoff.ts';
import type { MeshService } from './mesh.ts';
import { identify } from './processes.ts';
import { readJson } from './state.ts';

/** A service that has been ready for this long has recovered: its next crash counts as the first. */
const recoveredAfterMs = 30_000;
const readinessPollMs = 50;
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
}

export interface Supervised {
  readonly service: MeshService;
  /** Starts at once what waits for its restart; leaves alone what runs. */
  nudge(): void;
  /** Ends the process and waits; it is not started again. */
  stop(): Promise<void>;
}

export interface Watcher {
  /** Called after every change of `service`, with a line for people when there is something to say. */
  changed(line?: string): void;
}

/**
 * Keeps one service running: starts it, waits until it is ready, and starts it again with growing delays when it ends;
 * `delayMs` says how long to wait after the n-th end in a row.
 */
export function supervise(program: ServiceProgram, watcher: Watcher, delayMs = restartDelayMs): Supervised {
  const service: MeshService = { name: program.name, ...program.addresses, state: 'starting', restarts: 0 };
  let child: ChildProcess | undefined;
  let ended = Promise.resolve();
  let failuresInARow = 0;
  let restart: NodeJS.Timeout | undefined;
  let stopping = false;

  const start = () => {
    restart = undefined;
    mkdirSync(dirname(program.stateFile), { recursive: true });
    rmSync(program.stateFile, { force: true });
    child = spawnLogged(program);
    const running = child;
    Object.assign(service, {
      pid: running.pid,
      started: running.pid && identify(running.pid)?.started,
      state: 'starting',
    });
    const readiness = watchReadiness(program, running, () => {
      service.state = 'ready';
      watcher.changed(`${service.name} is ready (pid ${service.pid})`);
    });
    ended = new Promise((resolve) => {
      const end = (how: string) => {
        const readyForMs = readiness.stop();
        delete service.pid;
        delete service.started;
        service.lastEnd = how;
        if (stopping) {
          service.state = 'stopped';
          watcher.changed(`${service.name} stopped (${how})`);
        } else {
          failuresInARow = readyForMs > recoveredAfterMs ? 1 : failuresInARow + 1;
          again(how);
        }
        resolve();
      };
      running.once('error', (error) => end(error.message));
      running.once('exit', (code, signal) => end(signal ? `ended by ${signal}` : `exit code ${code}`));
    });
    watcher.changed();
  };

  const again = (how: string) => {
    const pauseMs = delayMs(failuresInARow);
    service.state = 'restarting';
    service.restarts++;
    restart = setTimeout(start, pauseMs);
    watcher.changed(
      `${service.name} ended (${how}); restart ${service.restarts} in ${pauseMs} ms, its log is ${program.log}`,
    );
  };

  start();
  return {
    service,
    nudge() {
      if (!restart) return;
      clearTimeout(restart);
      failuresInARow = 0;
      start();
    },
    async stop() {
      stopping = true;
      clearTimeout(restart);
      service.state = 'stopped';
      child?.kill('SIGTERM');
      const force = setTimeout(() => child?.kill('SIGKILL'), stopGraceMs);
      await ended;
      clearTimeout(force);
    },
  };
}

function spawnLogged({ args, cwd, env, log }: ServiceProgram): ChildProcess {
  mkdirSync(dirname(log), { recursive: true });
  const output = openSync(log, 'a', 0o600);
  try {
    return spawn(process.execPath, args, { cwd, env, stdio: ['ignore', output, output] });
  } finally {
    closeSync(output);
  }
}

/** Calls `whenReady` once the program has said so itself. `stop` answers for how long it had been ready. */
function watchReadiness(program: ServiceProgram, child: ChildProcess, whenReady: () => void): { stop(): number } {
  let stopped = false;
  let readySince: number | undefined;
  const look = async () => {
    if (await saysReady(program, child.pid)) {
      if (stopped) return;
      readySince = Date.now();
      whenReady();
    } else if (!stopped) {
      setTimeout(look, readinessPollMs);
    }
  };
  void look();
  return {
    stop() {
      stopped = true;
      return readySince === undefined ? 0 : Date.now() - readySince;
    },
  };
}

/** Ready is: the state file carries this very pid, and the admin port, where there is one, says so too. */
async function saysReady({ stateFile, addresses }: ServiceProgram, pid: number | undefined): Promise<boolean> {
  if (pid === undefined || readJson<{ pid: number }>(stateFile)?.pid !== pid) return false;
  if (!addresses.admin) return true;
  try {
    const response = await fetch(`http://${addresses.admin}/readyz`, { signal: AbortSignal.timeout(2_000) });
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    // Not listening yet, or just gone: the end of the process is noticed elsewhere.
    return false;
  }
}
