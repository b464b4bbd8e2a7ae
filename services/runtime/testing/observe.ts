/** Observations of a consumer in tests of messaging: its effects, its dead letters, its metrics. */
import { randomUUID } from 'node:crypto';
import type { EventContract } from '@armature/proto/contract.ts';
import type { Options } from 'amqplib';
import type { Tx } from '../db/tx.ts';
import { rpcError } from '../errors/errors.ts';
import { consume } from '../messaging/consumer.ts';
import { eventsExchange } from '../messaging/topology.ts';
import { eventually, type Producer, type RunningConsumer, type Ticked, ticked } from './messaging.ts';

export async function record(message: Ticked, tx: Tx): Promise<void> {
  await tx.execute('insert into effect (id, number, written_us) values (?, ?, 0)', [message.id, message.number]);
}

/** A handler that records messages, and rejects those whose number is in the set with a permanent error. */
export const recordUnless = (failing: ReadonlySet<number>) => (message: Ticked, _call: unknown, tx: Tx) =>
  failing.has(message.number)
    ? Promise.reject(rpcError('FAILED_PRECONDITION', 'NEVER', 'this cannot be'))
    : record(message, tx);

export const recorder = consume(ticked, (message, _call, tx) => record(message, tx));

export async function effects(consumer: Pick<RunningConsumer, 'db'>, id?: string): Promise<number[]> {
  const rows = await consumer.db.read(null, (sql) =>
    sql.query<{ id: string; number: number }>('select id, number from effect order by position'),
  );
  return rows.filter((row) => id === undefined || row.id === id).map((row) => row.number);
}

export const effectsOf = (consumer: RunningConsumer, id: string, count: number): Promise<number[]> =>
  eventually(async () => {
    const found = await effects(consumer, id);
    return found.length >= count && found;
  }, `${count} effects on ${id}`);

export interface DeadLetterRow {
  id: string;
  consumer: string;
  message_id: string;
  publisher: string;
  type: string;
  aggregate_id: string | null;
  sequence: number | null;
  body: Buffer;
  reason: string;
  attempts: number;
  redriven_at: string | null;
  unknown_type: number;
}

export const deadLetters = (consumer: Pick<RunningConsumer, 'db'>): Promise<DeadLetterRow[]> =>
  consumer.db.read(null, (sql) => sql.query<DeadLetterRow>('select * from dead_letter order by id'));

export const deadLettersOf = (consumer: RunningConsumer, count: number): Promise<DeadLetterRow[]> =>
  eventually(async () => {
    const found = await deadLetters(consumer);
    return found.length >= count && found;
  }, `${count} dead letters`);

export async function metric(
  { registry }: Pick<RunningConsumer, 'registry'>,
  name: string,
  labels: Record<string, string> = {},
): Promise<number> {
  const found = await registry.getSingleMetric(name)?.get();
  const fits = (value: { labels: object }) =>
    Object.entries(labels).every(([label, text]) => (value.labels as Record<string, unknown>)[label] === text);
  return found?.values.filter(fits).reduce((sum, value) => sum + value.value, 0) ?? 0;
}

/** Publishes a message without the outbox, as the events' source would. */
export function publish(
  producer: Producer,
  of: { id: string; number: number; sequence: number },
  more: { event?: EventContract<Ticked>; body?: Buffer; properties?: Options.Publish & { messageId: string } } = {},
): Promise<string> {
  const { id, number, sequence } = of;
  const { event = ticked, body, properties } = more;
  const message = { id, number, atMs: Date.now() };
  return producer.broker.publish({
    exchange: eventsExchange,
    routingKey: event.routingKey,
    body: body ?? Buffer.from(event.message.encode(message).finish()),
    properties: {
      messageId: randomUUID(),
      type: event.type,
      headers: { aggregate: 'order', 'aggregate-id': id, sequence: String(sequence) },
      ...properties,
    },
  });
}
