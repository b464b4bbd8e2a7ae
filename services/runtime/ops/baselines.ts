import type { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import type { CallContext } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import { runIdempotent } from '../idempotency/run-idempotent.ts';
import type { BaselinePublisher } from '../messaging/baseline-publisher.ts';
import { type BaselineSource, outboxBaselines, placesOf } from '../messaging/baseline-source.ts';
import type { Subscription } from '../messaging/topology.ts';
import { openPage } from '../rpc/paging.ts';
import type { Implementation } from '../rpc/server.ts';
import { type Chosen, chooseOnce } from './actions.ts';
import { subscriptionNotFound } from './errors.ts';

const pageSize = 100;

export interface BaselineParts {
  service: string;
  db: Database;
  publish: BaselinePublisher['publish'];
  subscriptions: readonly Subscription[];
  sources: readonly BaselineSource[];
}

/** Publishes the aggregates of this service to one consumer that needs them. */
export function baselines(parts: BaselineParts): Pick<Implementation<typeof OpsServiceContract>, 'publishBaseline'> {
  const { service, db, publish, subscriptions, sources } = parts;
  return {
    async publishBaseline(message, call) {
      const { aggregate, consumer, aggregateIds, skipHistory, dryRun } = message;
      const subscribed = subscriptions.some(
        (one) => one.source === service && one.aggregate === aggregate && one.service === consumer,
      );
      if (!subscribed) throw subscriptionNotFound(service, aggregate, consumer);
      const own = sources.filter((source) => source.aggregate === aggregate);
      const page = openPage<readonly [string]>(message, pageSize, [aggregate, consumer, aggregateIds, skipHistory]);
      const after = String(page.after?.[0] ?? '');
      const found = await db.read(call, (sql) =>
        placesOf(sql, [...own, outboxBaselines(aggregate)], { after, limit: page.size + 1, ids: aggregateIds }),
      );
      const onPage = found.slice(0, page.size);
      const ids = dryRun
        ? onPage.map(({ id }) => id)
        : await noteBefore(db, call, `baseline of ${aggregate} for ${consumer}`, {
            ids: onPage.map(({ id }) => id),
            more: found.length > onPage.length,
          });
      const places = onPage.filter(({ id }) => ids.includes(id));
      const source = own[0] ?? outboxBaselines(aggregate);
      const { done, baselines, events } = await publish(call, {
        ...{ db, aggregate, consumer, places, source, skipHistory, dryRun },
      });
      const last = places[done - 1];
      const more = last !== undefined && last !== found.at(-1);
      return runIdempotent(db, call, async () => {
        return { aggregates: done, baselines, events, nextPageToken: more ? page.tokenAfter([last.id]) : '' };
      });
    },
  };
}

/**
 * Records the action before anything is published, so that a partial failure is recorded. A repeat acts on the same
 * ids.
 */
async function noteBefore(db: Database, call: CallContext, why: string, page: Chosen): Promise<readonly string[]> {
  const { ids } = await db.transaction(call, (tx) => chooseOnce(tx, call, async () => page, why));
  return ids;
}
