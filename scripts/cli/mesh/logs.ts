import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { runDirectory } from '../../devmesh/state.ts';
import { didYouMean } from '../call/nearest.ts';
import type { Deadline } from '../deadline.ts';
import { UsageError } from '../exit-codes.ts';

/** The names of the logs that there are. */
export function logNames(): string[] {
  const folder = join(runDirectory(), 'logs');
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith('.log'))
    .map((name) => name.slice(0, -'.log'.length))
    .sort();
}

/** Shows the end of a log and, with `follow`, what is added to it until the command is interrupted. */
export async function showLog(
  name: string | undefined,
  { lines, follow }: { lines: number; follow: boolean },
  deadline: Deadline,
): Promise<void> {
  const names = logNames();
  if (names.length === 0) throw new UsageError('There are no logs yet; armature up makes some.');
  if (name === undefined || !names.includes(name)) {
    const problem = name === undefined ? 'name a log' : `there is no log ${name}${didYouMean(name, names)}`;
    throw new UsageError(`${problem}: armature logs <name>, where name is one of: ${names.join(' ')}`);
  }
  const args = ['-n', String(lines), ...(follow ? ['-F'] : []), join(runDirectory(), 'logs', `${name}.log`)];
  const tail = spawn('tail', args, { stdio: 'inherit' });
  deadline.cleanUps.push(async () => tail.kill());
  // The terminal interrupts tail too; following ends without an error.
  process.once('SIGINT', () => tail.kill());
  const [code] = (await once(tail, 'close')) as [number | null];
  process.exitCode = code ?? 0;
}
