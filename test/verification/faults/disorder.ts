/**
 * Binds itself between the events exchange and the queues of the consumers, and publishes what it receives in another
 * order.
 */

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConfirmChannel, ConsumeMessage } from 'amqplib';
import { connectBroker, type Teardown, type TestVirtualHost } from '../../support/infra.ts';
import { seeded } from '../../support/random.ts';

const exchange = 'armature.events';
/** A window that is not full is published after this long without a new message. */
const quietMs = 100;

export interface Disorder {
  readonly seed: number;
  /** Delays the events of an aggregate that have not been received yet. */
  delay(aggregateId: string, ms: number): void;
  /** Resolves once everything received has been published, and nothing arrived for a while. */
  idle(): Promise<void>;
  taken(): number;
  published(): number;
  /** How many messages had a later one published before them. */
  displaced(): number;
  delayed(): number;
}

interface Binding {
  source: string;
  destination: string;
  destination_type: string;
  routing_key: string;
  properties_key: string;
}

/**
 * Unbinds every queue of the virtual host from the exchange, and binds its own queue instead. Publishes each message to
 * its queue `copies` times, shuffled with those of the same window, under the user id of the original publisher. It
 * uses an account that may impersonate others; no service has such an account.
 */
export async function disorder(
  t: Teardown,
  vhost: TestVirtualHost,
  options: { copies: number; within: number; seed: number },
): Promise<Disorder> {
  const random = seeded(options.seed).next;
  const channel = await impersonator(t, vhost);
  const bindings = (await vhost.api.request(
    'GET',
    `/exchanges/${vhost.name}/${exchange}/bindings/source`,
  )) as Binding[];
  const queues = bindings.filter(({ destination_type }) => destination_type === 'queue');
  if (queues.length === 0) throw new Error('no queue has a consumer');
  const counts = { taken: 0, published: 0, displaced: 0, delayed: 0, waiting: 0 };
  const delays = new Map<string, number>();
  const tap: Tap = { t, channel, random, counts, delays, lastAt: Date.now(), ...options };
  for (const [queue, of] of Map.groupBy(queues, ({ destination }) => destination)) {
    await intercept(
      tap,
      queue,
      of.map(({ routing_key }) => routing_key),
    );
  }
  return {
    seed: options.seed,
    delay: (aggregateId, ms) => void delays.set(aggregateId, ms),
    async idle() {
      while (counts.waiting > 0 || Date.now() - tap.lastAt < 3 * quietMs) await sleep(20);
      await channel.waitForConfirms();
    },
    taken: () => counts.taken,
    published: () => counts.published,
    displaced: () => counts.displaced,
    delayed: () => counts.delayed,
  };
}

/** The channel, the settings and the counts that all intercepted queues share. */
interface Tap {
  readonly t: Teardown;
  readonly channel: ConfirmChannel;
  readonly random: () => number;
  readonly copies: number;
  readonly within: number;
  readonly counts: { taken: number; published: number; displaced: number; delayed: number; waiting: number };
  /** Milliseconds by aggregate. */
  readonly delays: ReadonlyMap<string, number>;
  lastAt: number;
}

/** Binds an own queue in place of a consumer's, and publishes what arrives there to the consumer's in another order. */
async function intercept(tap: Tap, queue: string, keys: readonly string[]): Promise<void> {
  const { t, channel, counts, delays } = tap;
  const own = `disorder-${randomBytes(6).toString('hex')}`;
  await channel.assertQueue(own, { exclusive: true });
  // Bind before unbinding, so that no message is lost. Duplicates do not matter here.
  for (const key of keys) await channel.bindQueue(own, exchange, key);
  for (const key of keys) await channel.unbindQueue(queue, exchange, key);
  const shuffled = shuffledWindow(tap, queue);
  const late: NodeJS.Timeout[] = [];
  t.teardown(() => {
    for (const timer of late) clearTimeout(timer);
  });
  await channel.consume(
    own,
    (message) => {
      if (!message) return;
      tap.lastAt = Date.now();
      counts.taken += 1;
      counts.waiting += 1;
      const waitMs = delays.get(String(message.properties.headers?.['aggregate-id'])) ?? 0;
      if (waitMs === 0) return shuffled(message);
      counts.delayed += 1;
      late.push(setTimeout(() => shuffled(message), waitMs));
    },
    { noAck: true },
  );
}

/** Returns a function that collects messages, and publishes a full or quiet window of them in random order. */
function shuffledWindow(tap: Tap, queue: string): (message: ConsumeMessage) => void {
  const { t, channel, random, copies, within, counts } = tap;
  let window: { message: ConsumeMessage; place: number }[] = [];
  const publish = ({ properties, content }: ConsumeMessage) => {
    const { headers, ...rest } = properties;
    // Directly to the queue: the exchange would route it to this consumer again.
    channel.publish('', queue, content, { ...rest, headers, persistent: true, mandatory: true });
    counts.published += 1;
  };
  const publishWindow = () => {
    const messages = window.flatMap((one) => Array.from({ length: copies }, () => one));
    window = [];
    shuffle(messages, random);
    let furthest = -1;
    for (const { message, place } of messages) {
      if (place < furthest) counts.displaced += 1;
      furthest = Math.max(furthest, place);
      publish(message);
    }
    counts.waiting -= messages.length / copies;
  };
  let quiet: NodeJS.Timeout | undefined;
  t.teardown(() => clearTimeout(quiet));
  return (message) => {
    tap.lastAt = Date.now();
    window.push({ message, place: window.length });
    clearTimeout(quiet);
    if (window.length >= within) publishWindow();
    else quiet = setTimeout(publishWindow, quietMs);
  };
}

async function impersonator(t: Teardown, { api, name, adminUrl }: TestVirtualHost): Promise<ConfirmChannel> {
  const user = `disorder-${randomBytes(6).toString('hex')}`;
  const password = randomBytes(16).toString('hex');
  await api.request('PUT', `/users/${user}`, { password, tags: 'administrator,impersonator' });
  t.teardown(() => api.request('DELETE', `/users/${user}`));
  await api.request('PUT', `/permissions/${name}/${user}`, { configure: '.*', write: '.*', read: '.*' });
  const url = new URL(adminUrl);
  url.username = user;
  url.password = password;
  const connection = await connectBroker(url.href);
  t.teardown(() => connection.close());
  return connection.createConfirmChannel();
}

/** Fisher-Yates shuffle. */
function shuffle<T>(items: T[], random: () => number): void {
  for (let last = items.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [items[last], items[other]] = [items[other]!, items[last]!];
  }
}
