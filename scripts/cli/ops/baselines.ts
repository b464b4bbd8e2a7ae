import { printJson } from '../json.ts';
import { type Caller, callOps, note, serviceNamed } from './ops-client.ts';

export interface BaselineOptions {
  from: string;
  to: string;
  aggregate: string;
  ids?: readonly string[];
  skipHistory?: boolean;
  apply?: boolean;
}

/** Brings one consumer up to date with the aggregates of one service, page by page. Only counts without `apply`. */
export async function publishBaselines(options: BaselineOptions, caller: Caller): Promise<void> {
  const { aggregate, ids = [], skipHistory = false, apply = false } = options;
  const from = serviceNamed(options.from, '--from');
  const consumer = serviceNamed(options.to, '--to');
  const request = { aggregate, consumer, aggregateIds: [...ids], skipHistory, dryRun: !apply };
  const total = { aggregates: 0, baselines: 0, events: 0n };
  for (let pageToken = ''; ; ) {
    const page = await callOps(from, caller, (client) => client.publishBaseline({ ...request, pageToken }));
    total.aggregates += page.aggregates;
    total.baselines += page.baselines;
    total.events += page.events;
    pageToken = page.nextPageToken;
    if (pageToken === '') break;
    note(`${total.aggregates} aggregates so far`);
  }
  if (caller.invocation.json) {
    printJson({ applied: apply, from, consumer, aggregate, ...total });
    return;
  }
  const verb = apply ? 'published' : 'would publish';
  console.log(
    `${aggregate} of ${from} for ${consumer}: ${total.aggregates} aggregates; ${verb} ${total.baselines} baselines ` +
      `and ${total.events} past events`,
  );
  if (!apply) note('nothing was done; --apply does it');
}
