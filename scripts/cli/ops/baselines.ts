import { asked, needed, say, servicesOf } from './asking.ts';

const { IDS = '', SKIP_HISTORY = '', APPLY = '' } = process.env;
const example = 'make baseline FROM=orders TO=notifications AGGREGATE=order';

/** Brings one consumer up to date with the aggregates of one service, page by page; only counts unless APPLY=1. */
export async function publishBaselines(): Promise<void> {
  const [from] = servicesOf(needed('FROM', example));
  const consumer = needed('TO', example);
  const aggregate = needed('AGGREGATE', example);
  const dryRun = APPLY !== '1';
  const aggregateIds = IDS.split(',').filter((id) => id !== '');
  const request = { aggregate, consumer, aggregateIds, skipHistory: SKIP_HISTORY === '1', dryRun };
  const total = { aggregates: 0, baselines: 0, events: 0n };
  for (let pageToken = ''; ; ) {
    const page = await asked(from!, (ops) => ops.publishBaseline({ ...request, pageToken }));
    total.aggregates += page.aggregates;
    total.baselines += page.baselines;
    total.events += page.events;
    pageToken = page.nextPageToken;
    if (pageToken === '') break;
    say(`${total.aggregates} aggregates so far`);
  }
  const verb = dryRun ? 'would publish' : 'published';
  console.log(
    `${aggregate} of ${from} for ${consumer}: ${total.aggregates} aggregates; ${verb} ${total.baselines} baselines ` +
      `and ${total.events} past events`,
  );
  if (dryRun) say('nothing was done; APPLY=1 does it');
}
