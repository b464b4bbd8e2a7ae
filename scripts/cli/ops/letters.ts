import { type DeadLetter, DeadLetterState, RedriveOutcome } from '@armature/proto/ops/v1/ops.ts';
import { asked, askedOfAll, needed, say, servicesOf, table, time, valueName } from './asking.ts';

const { S = '', TYPE = '', REASON = '', ID = '', APPLY = '' } = process.env;

const filter = { eventType: TYPE, reason: REASON };
const shortType = (type: string) => type.split('.').at(-1) ?? type;
/** A page of each service is what a person reads; the rest is counted in armature_dead_letters. */
const pageSize = 200;

/** Open dead letters of one service or of all. */
export async function listLetters(): Promise<void> {
  const found = await askedOfAll(
    servicesOf(S),
    async (ops) => (await ops.listDeadLetters({ filter, pageSize })).deadLetters,
  );
  if (found.length === 0) {
    if (!process.exitCode) console.log('No dead letters.');
    return;
  }
  const rows = found.map(({ service, item }) => [
    ...[service, item.deadLetterId, shortType(item.eventType), item.aggregateId || '-', time(item.deadTime)],
    ...[String(item.attempts), item.reason],
  ]);
  for (const line of table(['SERVICE', 'ID', 'EVENT', 'ABOUT', 'SINCE (UTC)', 'TRIES', 'REASON'], rows))
    console.log(line);
}

/** One dead letter with its body. */
export async function showLetter(): Promise<void> {
  const deadLetterId = needed('ID', 'make dead-letter S=notifications ID=<id of make dead-letters>');
  const answer = await asked(oneService(), (ops) => ops.getDeadLetter({ deadLetterId }));
  const letter = answer.deadLetter!;
  for (const line of table(['', ''], factsOf(letter)).slice(1)) console.log(line);
  console.log(`\nbody: ${letter.bodyBytes} bytes, SHA-256 ${answer.bodySha256}`);
  if (answer.bodyJson) console.log(JSON.stringify(JSON.parse(answer.bodyJson), null, 2));
  else console.log(`not shown: ${answer.undecodable}`);
}

function factsOf(letter: DeadLetter): string[][] {
  const state = valueName(DeadLetterState, letter.state, 'DEAD_LETTER_STATE_');
  return [
    ['event', letter.eventType],
    ['about', `${letter.aggregateId || '-'}, number ${letter.sequence}`],
    ['message', `${letter.messageId} by ${letter.publisher}`],
    ['queue', letter.consumer],
    ['since', `${time(letter.deadTime)} UTC, after ${letter.attempts} tries`],
    ['reason', letter.reason],
    ['state', state],
    ...(letter.redriveTime ? [['redriven', time(letter.redriveTime)]] : []),
    ...(letter.dropTime ? [['dropped', `${time(letter.dropTime)} by ${letter.droppedBy}: ${letter.dropWhy}`]] : []),
  ];
}

/** Handles dead letters again; says only what it would do unless APPLY=1. Status 1 where one fails again. */
export async function redriveLetters(): Promise<void> {
  const service = oneService();
  if (ID === '' && TYPE === '' && REASON === '') {
    throw new Error('say which: ID=<id>, TYPE=<event> or REASON=<part of the reason>; TYPE and REASON go together');
  }
  const dryRun = APPLY !== '1';
  const which = ID === '' ? { filter } : { deadLetterIds: [ID] };
  const { results, more } = await asked(service, (ops) => ops.redriveDeadLetters({ ...which, dryRun }));
  const rows = results.map(({ deadLetterId, eventType, outcome, reason }) => [
    ...[deadLetterId, shortType(eventType), valueName(RedriveOutcome, outcome, 'REDRIVE_OUTCOME_'), reason],
  ]);
  for (const line of table(['ID', 'EVENT', 'OUTCOME', 'REASON'], rows)) console.log(line);
  if (results.length === 0) say('none fits');
  if (more) say('there are more that fit; run it again for those');
  if (dryRun && results.length > 0) say('nothing was done; APPLY=1 does it');
  const well: number[] = [
    RedriveOutcome.REDRIVE_OUTCOME_REDRIVEN,
    RedriveOutcome.REDRIVE_OUTCOME_ALREADY,
    RedriveOutcome.REDRIVE_OUTCOME_WOULD_REDRIVE,
  ];
  if (results.length === 0 || results.some(({ outcome }) => !well.includes(outcome))) process.exitCode = 1;
}

/** Gives one dead letter up for good. */
export async function dropLetter(): Promise<void> {
  const example = "make drop S=notifications ID=<id> WHY='ticket 123: the order was deleted'";
  const [deadLetterId, why] = [needed('ID', example), needed('WHY', example)];
  const dropped = await asked(oneService(), (ops) => ops.dropDeadLetter({ deadLetterId, why }));
  console.log(`dropped at ${time(dropped.dropTime)} UTC by ${dropped.droppedBy}: ${dropped.dropWhy}`);
}

function oneService() {
  const [service] = servicesOf(needed('S', 'S=notifications'));
  return service!;
}
