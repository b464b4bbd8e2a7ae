import { type Command, Option } from 'commander';
import type { ApplyOptions } from '../access/apply.ts';
import type { ExplainOptions } from '../access/explain.ts';
import { addCommand, addGroup } from '../command.ts';
import { type Format, formats } from '../table.ts';
import { applyOption, asOption, choiceOption } from './options.ts';

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
  addCommand<ExplainOptions>(group, {
    usage: 'explain <subject> <permission>',
    summary: 'Explain whether a subject may do something, by the policy in force',
    description:
      'Explains whether a subject (user:<id>, client:<id>, or nobody) may do something through a workload, by the policy in force. Permission is one such as orders.cancel, or a method or event that needs it. The exit code is 1 where it is denied.',
    examples: [
      'armature access explain user:ada orders.cancel',
      'armature access explain client:reports LedgerService/GetTrialBalance',
      'armature access explain nobody inventory.reserve --workload service:orders',
    ],
    timeout: '30s',
    json: true,
    options: [
      new Option('--workload <id>', 'the workload on the other end of the connection').default('workload:developer'),
      new Option('--scope <scope>', "the scope of the subject's token, such as 'orders catalog.read'; all by default"),
      asOption('admin'),
    ],
    run: async ([subject, permission], options, invocation) =>
      (await import('../access/explain.ts')).explainAccess(subject!, permission!, options, invocation),
  });
  addCommand<ApplyOptions>(group, {
    usage: 'apply',
    summary: 'Compare deploy/policy.csv with the policy in force, and apply the difference',
    description:
      'Compares deploy/policy.csv with the policy in force and, with --apply, makes the difference by audited calls of access. The exit code is 1 where they differ and nothing was applied.',
    examples: ['armature access apply', 'armature access apply --apply', 'armature access apply --prune --apply'],
    timeout: '2m',
    json: true,
    options: [
      new Option('--file <path>', 'another policy than deploy/policy.csv'),
      new Option('--prune', 'remove roles and grants that the file does not name'),
      applyOption('make the changes'),
      asOption('admin'),
    ],
    run: async (_, options, invocation) => (await import('../access/apply.ts')).applyPolicy(options, invocation),
  });
}
