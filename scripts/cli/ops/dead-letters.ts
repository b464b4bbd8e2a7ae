import {
  DeadLetter,
  DeadLetterState,
  GetDeadLetterResponse,
  RedriveDeadLettersResponse,
  RedriveOutcome,
} from '@armature/proto/ops/v1/ops.ts';
import { UsageError } from '../exit-codes.ts';
import { printJson } from '../json.ts';
import {
  type Caller,
  callOps,
  callOpsOfAll,
  noteOmissions,
  printTable,
  serviceNamed,
  servicesNamed,
  time,
  valueName,
} from './ops-client.ts';

/** Which dead letters: those of one event type, those whose reason contains a text, or both. */
export interface DeadLetterChoice {
  type?: string;
  reason?: string;
}

const filterOf = ({ type = '', reason = '' }: DeadLetterChoice) => ({ eventType: type, reason });
const shortType = (type: string) => type.split('.').at(-1) ?? type;
/** A page of each service is what a person reads; the rest is counted in armature_dead_letters. */
const pageSize = 200;

/** Lists open dead letters of one service or of all. */
export async function listDeadLetters(
  { service, ...choice }: DeadLetterChoice & { service?: string },
  caller: Caller,
): Promise<void> {
  const request = { filter: filterOf(choice), pageSize };
  const found = await callOpsOfAll(
    servicesNamed(service),
    caller,
    async (client) => (await client.listDeadLetters(request)).deadLetters,
  );
  if (caller.invocation.json) {
    printJson(found.map(({ service, item }) => ({ service, ...(DeadLetter.toJSON(item) as object) })));
    return;
  }
  if (found.length === 0) {
    if (!process.exitCode) console.log('No dead letters.');
    return;
  }
  const rows = found.map(({ service, item }) => [
    ...[service, item.deadLetterId, shortType(item.eventType), item.aggregateId || '-', time(item.deadTime)],
    ...[String(item.attempts), item.reason],
  ]);
  printTable(['SERVICE', 'ID', 'EVENT', 'ABOUT', 'SINCE (UTC)', 'TRIES', 'REASON'], rows);
}

/** Shows one dead letter with its body. */
export async function showDeadLetter(deadLetterId: string, service: string, caller: Caller): Promise<void> {
  const response = await callOps(serviceNamed(service), caller, (client) => client.getDeadLetter({ deadLetterId }));
  if (caller.invocation.json) {
    printJson(GetDeadLetterResponse.toJSON(response));
    return;
  }
  for (const [name, value] of factsOf(response.deadLetter!)) console.log(`${name!.padEnd(8)}  ${value}`);
  const { bodySha256, bodyJson, undecodable, deadLetter } = response;
  console.log(`\nbody: ${deadLetter!.bodyBytes} bytes, SHA-256 ${bodySha256}`);
  console.log(bodyJson ? JSON.stringify(JSON.parse(bodyJson), null, 2) : `not shown: ${undecodable}`);
}

function factsOf(deadLetter: DeadLetter): string[][] {
  const state = valueName(DeadLetterState, deadLetter.state, 'DEAD_LETTER_STATE_');
  return [
    ['event', deadLetter.eventType],
    ['about', `${deadLetter.aggregateId || '-'}, number ${deadLetter.sequence}`],
    ['message', `${deadLetter.messageId} by ${deadLetter.publisher}`],
    ['queue', deadLetter.consumer],
    ['since', `${time(deadLetter.deadTime)} UTC, after ${deadLetter.attempts} tries`],
    ['reason', deadLetter.reason],
    ['state', state],
    ...(deadLetter.redriveTime ? [['redriven', time(deadLetter.redriveTime)]] : []),
    ...(deadLetter.dropTime
      ? [['dropped', `${time(deadLetter.dropTime)} by ${deadLetter.droppedBy}: ${deadLetter.dropWhy}`]]
      : []),
  ];
}

/** Handles dead letters again. Without `apply` only says what it would do. Exit code 1 where one fails again. */
export async function redriveDeadLetters(
  deadLetterId: string | undefined,
  { service, apply = false, ...choice }: DeadLetterChoice & { service: string; apply?: boolean },
  caller: Caller,
): Promise<void> {
  if (deadLetterId === undefined && choice.type === undefined && choice.reason === undefined) {
    throw new UsageError('name a dead letter by its id, or choose some by --type, --reason or both');
  }
  const which = deadLetterId === undefined ? { filter: filterOf(choice) } : { deadLetterIds: [deadLetterId] };
  const response = await callOps(serviceNamed(service), caller, (client) =>
    client.redriveDeadLetters({ ...which, dryRun: !apply }),
  );
  const { results, more } = response;
  const succeeded: number[] = [
    RedriveOutcome.REDRIVE_OUTCOME_REDRIVEN,
    RedriveOutcome.REDRIVE_OUTCOME_ALREADY,
    RedriveOutcome.REDRIVE_OUTCOME_WOULD_REDRIVE,
  ];
  if (results.length === 0 || results.some(({ outcome }) => !succeeded.includes(outcome))) process.exitCode = 1;
  if (caller.invocation.json) {
    printJson({ applied: apply, ...(RedriveDeadLettersResponse.toJSON(response) as object) });
    return;
  }
  const rows = results.map(({ deadLetterId, eventType, outcome, reason }) => [
    ...[deadLetterId, shortType(eventType), valueName(RedriveOutcome, outcome, 'REDRIVE_OUTCOME_'), reason],
  ]);
  printTable(['ID', 'EVENT', 'OUTCOME', 'REASON'], rows);
  noteOmissions(results, { of: 'dead letter', more, apply });
}

/** Gives one dead letter up for good. */
export async function dropDeadLetter(
  deadLetterId: string,
  { service, why }: { service: string; why: string },
  caller: Caller,
): Promise<void> {
  const dropped = await callOps(serviceNamed(service), caller, (client) =>
    client.dropDeadLetter({ deadLetterId, why }),
  );
  if (caller.invocation.json) printJson(DeadLetter.toJSON(dropped));
  else console.log(`dropped at ${time(dropped.dropTime)} UTC by ${dropped.droppedBy}: ${dropped.dropWhy}`);
}
