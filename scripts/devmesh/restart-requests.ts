// How commands ask the supervisor to restart a service: a file with the request, SIGHUP, and a file with the response.
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, isSuspended, signal, stoppedBySignal } from './processes.ts';
import { readJson, type State, writeAtomically } from './state.ts';
import { runningSupervisor } from './supervisor-process.ts';

export interface RestartRequest {
  service: string;
  /** Whether Node is to watch the code from now on (`node --watch`). */
  watch: boolean;
}

/** What came of a request: nothing more where it succeeded. */
interface RestartResponse {
  problem?: string;
}

const pollMs = 25;
/** A supervisor takes requests at once. One that does not by now hangs, or was started by an earlier version. */
const takenWithinMs = 15_000;
const requestEnding = '.request.json';

const folderOf = (state: State) => join(state.dir, 'restarts');
const requestFile = (state: State, id: string) => join(folderOf(state), `${id}${requestEnding}`);
const responseFile = (state: State, id: string) => join(folderOf(state), `${id}.response.json`);

/**
 * Has the supervisor restart a service, and waits until the new process is ready. Throws with what the supervisor says
 * when it is not, and when the supervisor ends or `cancel` aborts meanwhile.
 */
export async function requestRestart(state: State, request: RestartRequest, cancel: AbortSignal): Promise<void> {
  const supervisor = runningSupervisor(state);
  if (!supervisor) throw new Error('no supervisor runs; armature up starts it');
  const id = randomUUID();
  const [asked, responded] = [requestFile(state, id), responseFile(state, id)];
  writeAtomically(asked, JSON.stringify(request), 0o600);
  const takenBy = Date.now() + takenWithinMs;
  try {
    signal(supervisor, 'SIGHUP');
    for (;;) {
      const response = readJson<RestartResponse>(responded);
      if (response?.problem) throw new Error(response.problem);
      if (response) return;
      cancel.throwIfAborted();
      if (!isAlive(supervisor)) throw new Error(`the supervisor ended before ${request.service} was restarted`);
      if (Date.now() > takenBy && existsSync(asked)) {
        throw new Error(
          isSuspended(supervisor.pid)
            ? `the supervisor takes no requests: ${stoppedBySignal(supervisor)}`
            : 'the supervisor takes no requests: it hangs or is of an earlier version; run armature down, then up',
        );
      }
      await sleep(pollMs);
    }
  } finally {
    rmSync(asked, { force: true });
    rmSync(responded, { force: true });
  }
}

/** Takes the requests that wait, for the supervisor. Each runs by itself; its response is written when it has ended. */
export function takeRestartRequests(state: State, restart: (request: RestartRequest) => Promise<void>): void {
  for (const name of waiting(state)) {
    const id = name.slice(0, -requestEnding.length);
    const request = readJson<RestartRequest>(requestFile(state, id));
    rmSync(requestFile(state, id), { force: true });
    // The client withdrew its request meanwhile.
    if (!request) continue;
    const respond = (response: RestartResponse) =>
      writeAtomically(responseFile(state, id), JSON.stringify(response), 0o600);
    restart(request).then(
      () => respond({}),
      (error: unknown) => respond({ problem: error instanceof Error ? error.message : String(error) }),
    );
  }
}

/** Forgets what is left of requests to a supervisor that is gone. */
export function clearRestartRequests(state: State): void {
  rmSync(folderOf(state), { recursive: true, force: true });
  mkdirSync(folderOf(state), { recursive: true, mode: 0o700 });
}

function waiting(state: State): string[] {
  if (!existsSync(folderOf(state))) return [];
  return readdirSync(folderOf(state)).filter((name) => name.endsWith(requestEnding));
}
