import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * A process as it can be found again later. A pid alone can be handed to a stranger once the process is gone;
 * a pid with its start time cannot.
 */
export interface ProcessIdentity {
  pid: number;
  started: string;
}

/** The process that a pid belongs to now, or undefined when there is none. A zombie counts as gone. */
export function identify(pid: number): ProcessIdentity | undefined {
  if (!Number.isInteger(pid) || pid <= 1) return undefined;
  if (existsSync('/proc/self/stat')) return identifyByProc(pid);
  const run = spawnSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' });
  const text = run.stdout?.trim() ?? '';
  return run.status === 0 && text && !text.startsWith('Z') ? { pid, started: text.replace(/^\S+\s+/, '') } : undefined;
}

function identifyByProc(pid: number): ProcessIdentity | undefined {
  const fields = statOf(pid);
  return fields && { pid, started: `${fields[19]}@${bootId()}` };
}

/** The fields of a process after its name, beginning with its state; undefined when it is gone. */
function statOf(pid: number): string[] | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    // Absent or just gone: either way there is no process to name.
    return undefined;
  }
  // The program's name stands in parentheses and may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields;
}

/** Whether a signal has stopped the process (SIGSTOP, or Ctrl-Z in its terminal): it lives, but does nothing. */
export function isSuspended(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 1) return false;
  if (existsSync('/proc/self/stat')) return statOf(pid)?.[0] === 'T';
  return (spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' }).stdout ?? '').startsWith('T');
}

/** What to tell a person about a suspended process. */
export const stoppedBySignal = ({ pid }: Pick<ProcessIdentity, 'pid'>): string =>
  `process ${pid} is stopped by a signal; kill -CONT ${pid} lets it go on`;

/** The pid of the parent of a process, or undefined when the process is gone. */
export function parentOf(pid: number): number | undefined {
  if (!Number.isInteger(pid) || pid <= 1) return undefined;
  if (existsSync('/proc/self/stat')) return Number(statOf(pid)?.[1]) || undefined;
  const run = spawnSync('ps', ['-o', 'ppid=', '-p', String(pid)], { encoding: 'utf8' });
  return Number(run.stdout?.trim()) || undefined;
}

/** Start times count from boot, so the boot belongs to them. */
function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

export function isAlive(process: ProcessIdentity | undefined): boolean {
  return process !== undefined && identify(process.pid)?.started === process.started;
}

export interface Launch {
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  cwd: string;
  /** The file that output is appended to. */
  log: string;
}

/** Starts a program that outlives us, in a process group of its own. */
export function launch({ command, args, env, cwd, log }: Launch): ProcessIdentity {
  mkdirSync(dirname(log), { recursive: true });
  const output = openSync(log, 'a', 0o600);
  try {
    const child = spawn(command, args, { cwd, env, detached: true, stdio: ['ignore', output, output] });
    // A program that cannot be started says so here; the caller sees the missing pid.
    child.on('error', () => undefined);
    const identity = child.pid === undefined ? undefined : identify(child.pid);
    if (!identity) throw new Error(`${command} could not be started, or ended at once: see ${log}`);
    child.unref();
    return identity;
  } finally {
    closeSync(output);
  }
}

/** Sends a signal to exactly this process; says whether it was still there. */
export function signal(process_: ProcessIdentity, name: NodeJS.Signals): boolean {
  if (!isAlive(process_)) return false;
  try {
    process.kill(process_.pid, name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** Ends a process: SIGTERM, then SIGKILL after the grace period. Says how it went. */
export async function stop(process_: ProcessIdentity, graceMs = 12_000): Promise<'absent' | 'stopped' | 'killed'> {
  if (!signal(process_, 'SIGTERM')) return 'absent';
  // A process that is stopped takes the signal only when it goes on; others ignore this.
  signal(process_, 'SIGCONT');
  if (await ended(process_, graceMs)) return 'stopped';
  signal(process_, 'SIGKILL');
  if (await ended(process_, 5_000)) return 'killed';
  throw new Error(`process ${process_.pid} did not end even by SIGKILL`);
}

/** Waits until the process is gone; false when the time is over first. */
export async function ended(process_: ProcessIdentity, withinMs: number): Promise<boolean> {
  const deadline = Date.now() + withinMs;
  while (isAlive(process_)) {
    if (Date.now() > deadline) return false;
    await sleep(20);
  }
  return true;
}

/** Ends every process of a group, by one signal after the other, each with 2 s to work. */
export async function endGroup(
  leader: number,
  signals: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGKILL'],
): Promise<void> {
  for (const name of signals) {
    if (!signalGroup(leader, name)) return;
    const deadline = Date.now() + 2_000;
    while (signalGroup(leader, 0) && Date.now() < deadline) await sleep(50);
  }
}

/** False when no process is left in the group. */
function signalGroup(leader: number, name: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-leader, name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}
