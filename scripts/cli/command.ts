import { type Command, Option } from 'commander';
import { type Deadline, parseDuration, startDeadline } from './deadline.ts';

/** What the implementation of a command is given besides its arguments and options. */
export interface Invocation {
  /** Whether the result is for a program. */
  json: boolean;
  deadline: Deadline;
  /** Whether the caller has set the deadline with --timeout. */
  deadlineChosen: boolean;
}

/** One command: how it is written, what help says, and what it does. */
export interface CommandDefinition<Options extends object> {
  /** Name and arguments as commander reads them, such as "show <id>". */
  usage: string;
  summary: string;
  /** More about it, for the command's own help. */
  description?: string;
  /** Whole command lines that work as they are written. */
  examples: readonly string[];
  /** The default of --timeout, such as "30s". */
  timeout: string;
  /** What help says of that default where it is not simply a duration. */
  timeoutMeaning?: string;
  /** Whether there is a result for programs. */
  json?: boolean;
  options?: readonly Option[];
  /** Loads the implementation and runs it. Its exit code is process.exitCode, or that of the error it throws. */
  run(args: readonly (string | undefined)[], options: Options, invocation: Invocation): Promise<void>;
}

/** Adds a command to a group or to the program. */
export function addCommand<Options extends object>(parent: Command, definition: CommandDefinition<Options>): Command {
  const { usage, summary, description, examples, timeout, timeoutMeaning, json = false, options = [] } = definition;
  const command = parent
    .command(usage)
    .summary(summary)
    .description(description ?? `${summary}.`);
  for (const option of options) command.addOption(option);
  if (json) command.option('--json', 'write the result as JSON, and errors as JSON to standard error');
  const limit = new Option('--timeout <duration>', 'total deadline of the command: 30s, 5m, 2h');
  command.addOption(limit.argParser(parseDuration).default(parseDuration(timeout), timeoutMeaning ?? timeout));
  command.addHelpText('after', `\nExamples:\n${examples.map((line) => `  $ ${line}`).join('\n')}`);
  return command.action(async () => {
    const chosen = command.opts<Options & { timeout: number; json?: boolean }>();
    const deadlineChosen = command.getOptionValueSource('timeout') !== 'default';
    await withDeadline(chosen.timeout, (deadline) =>
      definition.run(command.processedArgs as (string | undefined)[], chosen, {
        json: chosen.json ?? false,
        deadline,
        deadlineChosen,
      }),
    );
  });
}

/** Runs a command until its deadline. The caller that catches a DeadlineError ends the process, since the work goes on. */
async function withDeadline(ms: number, run: (deadline: Deadline) => Promise<void>): Promise<void> {
  const { promise: passed, reject } = Promise.withResolvers<never>();
  const deadline = startDeadline(ms, reject);
  try {
    await Promise.race([run(deadline), passed]);
  } catch (error) {
    if (error === deadline.signal.reason) await Promise.all(deadline.cleanUps.map((cleanUp) => cleanUp()));
    throw error;
  } finally {
    deadline.clear();
  }
}

/** Adds a group of commands under one noun. */
export function addGroup(program: Command, noun: string, summary: string): Command {
  return program.command(noun).summary(summary).description(`${summary}.`).helpCommand(false);
}
