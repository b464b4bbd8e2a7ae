import { type Command, Option } from 'commander';
import { addCommand, addGroup } from '../command.ts';
import type { BaselineOptions } from '../ops/baselines.ts';
import type { DeadLetterChoice } from '../ops/dead-letters.ts';
import { anyService, applyOption, asOption, oneService, whyOption, words } from './options.ts';

type As = { as: string };

const load = () => import('../ops/dead-letters.ts');
const typeOption = () =>
  new Option('--type <event>', 'only events of this type, such as armature.orders.v1.OrderPlaced');
const reasonOption = () => new Option('--reason <text>', 'only those whose reason contains this');

/** Adds `dead-letters` and `baseline`: what operators do about messages that a consumer did not handle or did not get. */
export function addDeadLetterCommands(program: Command): void {
  const group = addGroup(program, 'dead-letters', 'Messages that a service could not handle');
  addCommand<DeadLetterChoice & As & { service?: string }>(group, {
    usage: 'list',
    summary: 'List open dead letters, newest first',
    examples: ['armature dead-letters list', 'armature dead-letters list --service notifications --reason TIMEOUT'],
    timeout: '30s',
    json: true,
    options: [anyService(), typeOption(), reasonOption(), asOption('operator')],
    run: async (_, { as, ...options }, invocation) => (await load()).listDeadLetters(options, { as, invocation }),
  });
  addCommand<As & { service: string }>(group, {
    usage: 'show <id>',
    summary: 'Show one dead letter with its body, without personal data',
    examples: ['armature dead-letters show 01a20ed2-0740-72b8-b3da-7dec09e6953b --service notifications'],
    timeout: '30s',
    json: true,
    options: [oneService(), asOption('operator')],
    run: async ([id], { as, service }, invocation) => (await load()).showDeadLetter(id!, service, { as, invocation }),
  });
  addCommand<DeadLetterChoice & As & { service: string; apply?: boolean }>(group, {
    usage: 'redrive [id]',
    summary: 'Handle dead letters again',
    description:
      'Handles one dead letter again, or those that --type and --reason choose, oldest first. The exit code is 1 where one fails again.',
    examples: [
      'armature dead-letters redrive --service notifications --type armature.orders.v1.OrderPlaced',
      'armature dead-letters redrive 01a20ed2-0740-72b8-b3da-7dec09e6953b --service notifications --apply',
    ],
    timeout: '2m',
    json: true,
    options: [oneService(), typeOption(), reasonOption(), applyOption('handle them'), asOption('operator')],
    run: async ([id], { as, ...options }, invocation) =>
      (await load()).redriveDeadLetters(id, options, { as, invocation }),
  });
  addCommand<As & { service: string; why: string }>(group, {
    usage: 'drop <id>',
    summary: 'Give a dead letter up for good',
    description: 'Gives a dead letter up for good. It stays on record with who dropped it, when and why.',
    examples: [
      "armature dead-letters drop 01a20ed2-0740-72b8-b3da-7dec09e6953b --service notifications --why 'ticket 123'",
    ],
    timeout: '30s',
    json: true,
    options: [oneService(), whyOption(), asOption('operator')],
    run: async ([id], { as, ...options }, invocation) =>
      (await load()).dropDeadLetter(id!, options, { as, invocation }),
  });
  addBaselineCommand(program);
}

function addBaselineCommand(program: Command): void {
  addCommand<BaselineOptions & As>(program, {
    usage: 'baseline',
    summary: 'Bring a consumer up to date that missed events',
    description:
      'Publishes the baseline and the kept events of aggregates of one service to one consumer: after its queue was lost, its database was restored, or when it is new.',
    examples: [
      'armature baseline --from orders --to notifications --aggregate order',
      'armature baseline --from orders --to notifications --aggregate order --ids 01a20ed2-0740-72b8-b3da-7dec09e6953b --apply',
    ],
    timeout: '30m',
    json: true,
    options: [
      new Option('--from <service>', 'the service that publishes').makeOptionMandatory(),
      new Option('--to <service>', 'the service that consumes').makeOptionMandatory(),
      new Option('--aggregate <type>', 'the type of the aggregates, such as order').makeOptionMandatory(),
      new Option('--ids <ids>', 'only these aggregates, separated by commas').argParser(words),
      new Option('--skip-history', 'publish the baselines only, without the events that the outbox still holds'),
      applyOption('publish'),
      asOption('operator'),
    ],
    run: async (_, { as, ...options }, invocation) =>
      (await import('../ops/baselines.ts')).publishBaselines(options, { as, invocation }),
  });
}
