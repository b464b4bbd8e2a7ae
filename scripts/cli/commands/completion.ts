import { Argument, type Command } from 'commander';
import { addCommand } from '../command.ts';

/** Adds `completion`, and the hidden command that its scripts ask. */
export function addCompletionCommands(program: Command): void {
  const completion = addCommand(program, {
    usage: 'completion',
    summary: 'Print a script that completes commands, options, methods and principals in a shell',
    examples: ['source <(armature completion bash)', 'armature completion zsh > ~/.zfunc/_armature'],
    timeout: '30s',
    run: async ([shell]) => {
      const { completionScripts } = await import('../completion/scripts.ts');
      process.stdout.write(completionScripts[shell as keyof typeof completionScripts]);
    },
  });
  completion.addArgument(new Argument('<shell>', 'the shell').choices(['bash', 'zsh']));
  program.command('__complete <line>', { hidden: true }).action(async (line: string) => {
    const { candidates } = await import('../completion/candidates.ts');
    for (const one of candidates(program, line)) console.log(one);
  });
}
