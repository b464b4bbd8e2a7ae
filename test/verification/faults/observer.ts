import { connectBroker, type TestVirtualHost } from '../../support/infra.ts';

/** An event as it was published, copies included. */
export interface Published {
  messageId: string;
  aggregate: string;
  sequence: number;
}

const queue = 'observer';

/**
 * Binds a durable queue to the exchange that receives a copy of every event from now on, and survives broker restarts.
 */
export async function observeEvents({ adminUrl }: TestVirtualHost): Promise<() => Promise<Published[]>> {
  const model = await connectBroker(adminUrl);
  const channel = await model.createConfirmChannel();
  await channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await channel.bindQueue(queue, 'armature.events', '#');
  await model.close();
  return () => readAll(adminUrl);
}

/** Returns all messages so far, in queue order. The messages stay in the queue. */
async function readAll(url: string): Promise<Published[]> {
  const model = await connectBroker(url);
  try {
    const channel = await model.createChannel();
    const seen: Published[] = [];
    for (;;) {
      const message = await channel.get(queue);
      if (!message) return seen;
      const { headers = {}, messageId } = message.properties;
      const aggregate = `${headers.aggregate}/${headers['aggregate-id']}`;
      seen.push({ messageId: String(messageId), aggregate, sequence: Number(headers.sequence) });
    }
  } finally {
    await model.close();
  }
}

/** Compares the first copies, and reports each event of an aggregate that came before its predecessor. */
export function outOfOrder(events: readonly Published[]): string[] {
  const wrong: string[] = [];
  const last = new Map<string, number>();
  for (const { aggregate, sequence } of events) {
    const before = last.get(aggregate) ?? 0;
    if (sequence > before + 1) wrong.push(`${aggregate}: ${sequence} came after ${before}`);
    last.set(aggregate, Math.max(before, sequence));
  }
  return wrong;
}
