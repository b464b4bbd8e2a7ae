// Invariants of events, from the outbox of one service to the inbox of another, and of the jobs that follow from them.
import { subscriptions } from '@armature/proto/subscriptions.ts';
import { bySql, type Invariant, inEachSchema } from './invariant.ts';
import type { ShopData } from './shop-data.ts';

/** Published events are kept for 72 hours; the inbox is not compared with older ones. */
const keptHours = 70;

/** The subscriptions among the services whose schemas exist. */
function deliveriesOf(shopData: ShopData) {
  return subscriptions
    .filter(({ service, source }) => shopData.services.includes(service) && shopData.services.includes(source))
    .map(({ service, source, aggregate }) => ({
      service,
      source,
      aggregate,
      consumer: `${service}.${source}.${aggregate}`,
    }));
}

/** Runs one query for each subscription. `{into}` and `{from}` are the schemas of consumer and producer. */
async function acrossSubscriptions(shopData: ShopData, sql: string): Promise<unknown[]> {
  const found: unknown[] = [];
  for (const { service, source, aggregate, consumer } of deliveriesOf(shopData)) {
    const text = sql
      .replaceAll('{into}', `{${service}}`)
      .replaceAll('{from}', `{${source}}`)
      .replaceAll('{grace}', String(shopData.graceSeconds))
      .replaceAll('{aggregate}', `'${aggregate}'`)
      .replaceAll('{consumer}', `'${consumer}'`);
    found.push(...(await shopData.query<object>(text)).map((row) => ({ consumer, ...row })));
  }
  return found;
}

/** Exactly one delivery of a template for each order whose event was applied. */
const toldOf = (event: string, template: string, name: string): Invariant =>
  bySql(
    'I20',
    name,
    'an e-mail is missing, or was made for nothing',
    `select i.aggregate_id as order_id from {notifications}.inbox i
       left join {notifications}.delivery d on d.order_id = i.aggregate_id and d.template = '${template}'
     where i.type = 'armature.orders.v1.${event}' and i.outcome = 'applied' and d.delivery_id is null
     union all
     select d.order_id from {notifications}.delivery d
       left join {notifications}.inbox i
         on i.aggregate_id = d.order_id and i.type = 'armature.orders.v1.${event}' and i.outcome = 'applied'
     where d.template = '${template}' and i.message_id is null
       and d.created_at > utc_timestamp(6) - interval ${keptHours} hour`,
  );

export const messageInvariants: readonly Invariant[] = [
  inEachSchema(
    'I17',
    'the events of an aggregate are numbered without gaps',
    'a consumer waits for an event that never comes',
    `select aggregate, aggregate_id, min(sequence) as first, max(sequence) as last, count(*) as events
     from {each}.outbox group by aggregate, aggregate_id
     having max(sequence) - min(sequence) + 1 <> count(*) or min(sequence) < 1`,
  ),
  bySql(
    'I17',
    'the history of an order is numbered without gaps',
    'the history of an order lacks a change of it',
    `select o.order_id from {orders}.orders o left join {orders}.order_event e on e.order_id = o.order_id
     group by o.order_id, o.sequence having count(*) <> o.sequence or max(e.sequence) <> o.sequence`,
  ),
  inEachSchema(
    'I19',
    'no event waits to be published',
    'consumers do not learn what has happened',
    `select position, type from {each}.outbox
     where pending = 1 and created_at <= utc_timestamp(6) - interval {grace} second`,
  ),
  {
    id: 'I19',
    name: 'every published event was dealt with by each of its consumers',
    meaning: 'a message is lost',
    find: (shopData) =>
      acrossSubscriptions(
        shopData,
        `select o.message_id, o.type, o.aggregate_id, o.sequence from {from}.outbox o
           left join {into}.inbox i on i.consumer = {consumer} and i.message_id = o.message_id
           left join {into}.inbox_sequence s on s.consumer = {consumer} and s.aggregate_id = o.aggregate_id
         where o.aggregate = {aggregate} and o.pending is null and i.message_id is null
           and o.sequence > coalesce(s.baseline, 0)
           and not exists (
             select 1 from {into}.dead_letter d where d.consumer = {consumer} and d.message_id = o.message_id)
           and o.published_at <= utc_timestamp(6) - interval {grace} second`,
      ),
  },
  toldOf('OrderConfirmed', 'order_confirmed', 'a customer is told once of each order that was confirmed'),
  toldOf('OrderCancelled', 'order_cancelled', 'a customer is told once of each order that was cancelled'),
  inEachSchema(
    'I21',
    'every consumer has applied each aggregate step by step',
    'an event was left out, or applied ahead of its turn',
    // A baseline of the producer covers all events up to it. A consumer that was added later never received them.
    `select s.consumer, s.aggregate_id, s.applied, s.baseline, max(i.sequence) as newest, count(*) as events
     from {each}.inbox_sequence s join {each}.inbox i on i.consumer = s.consumer and i.aggregate_id = s.aggregate_id
     group by s.consumer, s.aggregate_id, s.applied, s.baseline
     having s.applied <> greatest(max(i.sequence), s.baseline)
       or max(if(i.sequence > s.baseline, i.sequence, null)) - min(if(i.sequence > s.baseline, i.sequence, null)) + 1
         <> sum(i.sequence > s.baseline)`,
  ),
  {
    id: 'I22',
    name: 'every consumed event was published by its producer',
    meaning: 'a service acted on an event that its producer did not publish',
    find: (shopData) =>
      acrossSubscriptions(
        shopData,
        `select i.message_id, i.type, i.aggregate_id from {into}.inbox i
           left join {from}.outbox o on o.message_id = i.message_id
         where i.consumer = {consumer} and o.message_id is null
           and i.created_at > utc_timestamp(6) - interval ${keptHours} hour`,
      ),
  },
  bySql(
    'I23',
    'a mail is sent or given up within its attempts, never before its time',
    'a customer is not told, or told again and again',
    `select delivery_id, state, attempts from {notifications}.delivery
     where (state = 'QUEUED' and next_attempt_at < utc_timestamp(6) - interval 60 + {grace} second)
       or attempts > 20 or (state = 'SENT' and (sent_at is null or sent_at < created_at or attempts < 1))`,
  ),
  inEachSchema(
    'I24',
    'a dead letter keeps what is needed to send it again',
    'a failure cannot be looked into',
    `select id, consumer from {each}.dead_letter where reason = '' or attempts < 1
       or (aggregate_id is not null and (message_id = '' or type = ''
         or (length(body) = 0 and redriven_at is null and dropped_at is null)))`,
  ),
  inEachSchema(
    'I25',
    'every stored response names the policy that allowed it',
    'the policy that allowed a change is not recorded',
    `select principal, method, request_key from {each}.idempotency where policy_version = ''`,
  ),
];
