import type { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import type { Database } from '../db/database.ts';
import type { BaselinePublisher } from '../messaging/baseline-publisher.ts';
import { type BaselineSource, outboxBaselines, placesOf } from '../messaging/baseline-source.ts';
import type { Subscription } from '../messaging/topology.ts';
import { openPage } from '../rpc/paging.ts';
import type { Implementation } from '../rpc/server.ts';
import { noteAction } from './actions.ts';
import { subscriptionNotFound } from './errors.ts';

const pageSize = 100;

export interface BaselineParts {
  service: string;
  db: Database;
  publish: BaselinePublisher['publish'];
  subscriptions: readonly Subscription[];
  sources: readonly BaselineSource[];
}

/** Brings one consumer up to date with the aggregates of this service. */
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
      const places = found.slice(0, page.size);
      const source = own[0] ?? outboxBaselines(aggregate);
      const { done, baselines, events } = await publish(call, {
        ...{ db, aggregate, consumer, places, source, skipHistory, dryRun },
      });
      const last = places[done - 1];
      const more = last !== undefined && done < found.length;
      const chosen = { ids: places.slice(0, done).map(({ id }) => id), more };
      return db.answer(call, async (tx) => {
        if (!dryRun) await noteAction(tx, call, `baseline of ${aggregate} for ${consumer}`, chosen);
        return { aggregates: done, baselines, events, nextPageToken: more ? page.tokenAfter([last.id]) : '' };
      });
    },
  };
}
