/** The exit codes of the armature command; docs/cli.md explains them. */
export const exitCodes = {
  ok: 0,
  /** The request was refused or failed, or a check found something. */
  failed: 1,
  /** The command line was not understood, so that nothing was tried. */
  usage: 2,
  /** The total deadline of the command passed. */
  deadline: 124,
} as const;

/** A command line that was not understood. */
export class UsageError extends Error {}

/** The total deadline of a command passed before the command had ended. */
export class DeadlineError extends Error {}
