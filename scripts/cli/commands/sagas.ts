import { type Command, Option } from 'commander';
import { addCommand, addGroup } from '../command.ts';
import type { ResumeOptions } from '../ops/sagas.ts';
import { anyService, applyOption, asOption, choiceOption, oneService, wholeNumber, whyOption } from './options.ts';

type As = { as: string };

const load = () => import('../ops/sagas.ts');
const id = '01a20ed2-0740-72b8-b3da-7dec09e6953b';

/** Adds `sagas`: what operators see of sagas, and what they do about stuck ones. */
export function addSagaCommands(program: Command): void {
  const group = addGroup(program, 'sagas', 'Sagas of the services');
  addCommand<As & { service?: string; state?: string }>(group, {
    usage: 'list',
    summary: 'List sagas that have not ended, newest first',
    examples: ['armature sagas list', 'armature sagas list --service orders --state stuck'],
    timeout: '30s',
    json: true,
    options: [
      anyService(),
      choiceOption('--state <state>', 'those in this state', ['running', 'stuck', 'completed', 'failed']),
      asOption('operator'),
    ],
    run: async (_, { as, ...options }, invocation) => (await load()).listSagas(options, { as, invocation }),
  });
  addCommand<As & { service: string }>(group, {
    usage: 'show <id>',
    summary: 'Show one saga and its history',
    examples: [`armature sagas show ${id} --service orders`],
    timeout: '30s',
    json: true,
    options: [oneService(), asOption('operator')],
    run: async ([sagaId], { as, service }, invocation) => (await load()).showSaga(sagaId!, service, { as, invocation }),
  });
  addCommand<ResumeOptions & As>(group, {
    usage: 'resume [id]',
    summary: 'Resume stuck sagas',
    description: 'Resumes one stuck saga, or those that match all of the given filters, oldest first.',
    examples: [
      `armature sagas resume ${id} --service orders`,
      'armature sagas resume --service orders --saga checkout --step capture-payment --reason UNAVAILABLE --apply',
    ],
    timeout: '2m',
    json: true,
    options: [
      oneService(),
      new Option('--saga <name>', 'only sagas of this name'),
      new Option('--step <step>', 'only those stuck at this step'),
      new Option('--reason <text>', 'only those whose reason contains this'),
      new Option('--older-than <seconds>', 'only those stuck for longer').argParser(wholeNumber(0, 99_999_999)),
      applyOption('resume the sagas that match'),
      asOption('operator'),
    ],
    run: async ([sagaId], { as, ...options }, invocation) =>
      (await load()).resumeSagas(sagaId, options, { as, invocation }),
  });
  addCommand<As & { service: string; why: string }>(group, {
    usage: 'compensate <id>',
    summary: 'Turn a saga back before its pivot',
    examples: [`armature sagas compensate ${id} --service orders --why 'ticket 123'`],
    timeout: '30s',
    json: true,
    options: [oneService(), whyOption(), asOption('operator')],
    run: async ([sagaId], { as, ...options }, invocation) =>
      (await load()).compensateSaga(sagaId!, options, { as, invocation }),
  });
}
