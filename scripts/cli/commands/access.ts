import { type Command, Option } from 'commander';
import { addCommand, addGroup } from '../command.ts';
import { type Format, formats } from '../table.ts';
import { choiceOption } from './options.ts';

/** Adds `access`: who may do what, and what a change of policy or contracts opens. */
export function addAccessCommands(program: Command): void {
  const group = addGroup(program, 'access', 'Who may call and publish what');
  addCommand<{ file?: string; format: Format }>(group, {
    usage: 'matrix',
    summary: 'Show who may call and publish what',
    description: 'Shows who may call and publish what, from the contracts and deploy/policy.csv.',
    examples: ['armature access matrix', 'armature access matrix --format csv --file another-policy.csv'],
    timeout: '30s',
    json: true,
    options: [
      new Option('--file <path>', 'another policy than deploy/policy.csv'),
      choiceOption('--format <format>', 'how the table is written', formats).default('text'),
    ],
    run: async (_, options, { json }) => (await import('../access/print-matrix.ts')).printMatrix({ ...options, json }),
  });
  addCommand<{ checkout?: string }>(group, {
    usage: 'diff [commit]',
    summary: 'Show what policy and contracts open and close since a commit',
    description:
      'Compares the working tree with a commit, or with main. The exit code is 1 when a principal may do more than before, and 2 when there is nothing to compare.',
    examples: ['armature access diff', 'armature access diff HEAD~1'],
    timeout: '2m',
    json: true,
    options: [new Option('--checkout <folder>', 'another checkout than this one')],
    run: async ([commit], { checkout }, { json }) =>
      (await import('../access/print-difference.ts')).printDifference(commit, { checkout, json }),
  });
}
