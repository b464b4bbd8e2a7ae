import { inspect } from 'node:util';
import { RpcError } from '@armature/runtime/errors';
import { renderRefusal } from './call/refusal.ts';
import { DeadlineError, exitCodes, UsageError } from './exit-codes.ts';
import { jsonOf } from './json.ts';

/** The exit code that an error ends the command with. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return exitCodes.usage;
  return error instanceof DeadlineError ? exitCodes.deadline : exitCodes.failed;
}

/** The lines that tell a person what failed: the refusal of a service with its details, or a message and its causes. */
export function errorLines(error: unknown): string[] {
  if (error instanceof RpcError) return renderRefusal(error);
  if (!(error instanceof Error)) return [String(error)];
  const lines = [error.message];
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) lines.push(`because: ${cause.message}`);
  return lines;
}

/** The same for programs: what `--json` writes to standard error. */
export function errorJson(error: unknown): { error: object } {
  // The stacks of an error and of its causes.
  const stack = process.env.DEBUG ? { stack: inspect(error) } : {};
  if (error instanceof RpcError) {
    const { code, reason, domain, message, metadata, details } = error;
    return { error: { code, reason, domain, message, metadata, details, ...stack } };
  }
  const [message, ...causes] = errorLines(error);
  return { error: { message, ...(causes.length > 0 ? { causes } : {}), ...stack } };
}

/**
 * Writes an error and sets the exit code that belongs to it. There is no stack trace unless DEBUG is set: most errors
 * are refusals, which the message explains. `silent` names what does not respond.
 */
export function reportError(
  error: unknown,
  { json = false, prefix = '', silent = [] as readonly string[] } = {},
): void {
  if (json) {
    const { error: told } = errorJson(error);
    console.error(jsonOf({ error: { ...told, ...(silent.length > 0 ? { silent } : {}) } }, { compact: true }));
  } else if (process.env.DEBUG) console.error(error);
  else for (const line of errorLines(error)) console.error(`${prefix}${line}`);
  if (!json) for (const line of silent) console.error(`not responding  ${line}`);
  process.exitCode = exitCodeOf(error);
}
