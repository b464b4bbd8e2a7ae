import { Command, CommanderError, type OutputConfiguration } from 'commander';
import { addAccessCommands } from './commands/access.ts';
import { addCallCommands } from './commands/call.ts';
import { addCompletionCommands } from './commands/completion.ts';
import { addDeadLetterCommands } from './commands/dead-letters.ts';
import { addMeshCommands } from './commands/mesh.ts';
import { addSagaCommands } from './commands/sagas.ts';
import { addVerificationCommands } from './commands/verification.ts';
import { DeadlineError, exitCodes, UsageError } from './exit-codes.ts';

/** Builds the whole program. Each command loads what it does only when it runs. */
export function buildProgram(output: OutputConfiguration = {}): Command {
  const program = new Command('armature')
    .description('Runs, calls and inspects the mesh of this repository.')
    .usage('<command> [options]')
    // Has commander throw where it would end the process. Subcommands take these settings over.
    .exitOverride()
    .configureOutput(output)
    .showHelpAfterError('(armature --help lists the commands; every command has --help)')
    .addHelpText('after', '\nEvery command has --help with examples. docs/cli.md lists exit codes and completion.');
  program.helpCommand(false).commandsGroup('Mesh:');
  addMeshCommands(program);
  program.commandsGroup('Calls and operations:');
  addCallCommands(program);
  addDeadLetterCommands(program);
  addSagaCommands(program);
  addAccessCommands(program);
  program.commandsGroup('Verification:');
  addVerificationCommands(program);
  program.commandsGroup('Shell:');
  addCompletionCommands(program);
  return program;
}

/** Runs one command line and sets the exit code. */
export async function runArmature(args: readonly string[]): Promise<void> {
  const json = args.includes('--json');
  try {
    // The text that commander writes about an error is for people.
    await buildProgram(json ? { writeErr: () => undefined } : {}).parseAsync([...args], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && (error.exitCode === 0 || !json)) {
      // Commander has written its message already. Help was asked for where the code is 0.
      process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
      return;
    }
    const { reportError } = await import('./failure.ts');
    const { isSilence, silentParts } = await import('./silence.ts');
    const silent = isSilence(error) ? await silentParts().catch(() => []) : [];
    reportError(error instanceof CommanderError ? usageErrorOf(error) : error, { json, silent });
    // What the command waited for may go on for ever.
    if (error instanceof DeadlineError) process.exit();
  }
}

/** An error of commander as one sentence: its message begins with "error: ", and a suggestion is on a line of its own. */
function usageErrorOf(cause: CommanderError): UsageError {
  const message = cause.message.replace(/^error: /, '').replaceAll('\n', ' ');
  // commander.help is thrown for a group without a command.
  return new UsageError(cause.code === 'commander.help' ? 'a command is missing; --help lists them' : message);
}
