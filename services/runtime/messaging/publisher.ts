import type { ConfirmChannel, Options } from 'amqplib';
import { dependencyUnavailable, overloaded } from '../errors/errors.ts';
import type { Link } from './link.ts';

export interface OutgoingMessage {
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Buffer;
  readonly properties: Options.Publish & { messageId: string };
}

/** The result of a confirmed message: in at least one queue, or in none because none is bound. */
export type Confirmed = 'routed' | 'unrouted';

export interface Publisher {
  ready(): boolean;
  /**
   * Resolves once the broker is responsible for the message. Rejects with UNAVAILABLE when that is unknown: the message
   * may or may not have arrived, so a caller that publishes again must expect a duplicate.
   */
  publish(message: OutgoingMessage): Promise<Confirmed>;
  /** Waits for unconfirmed messages, at most this long, and closes the channel. */
  close(timeoutMs: number): Promise<void>;
}

export interface PublisherLimits {
  /** Most unconfirmed messages; more are refused with RESOURCE_EXHAUSTED. */
  unconfirmedMax: number;
  /** A confirm that takes longer closes the connection, because its state is no longer known. */
  confirmTimeoutMs: number;
}

/**
 * Publishes on one confirm channel of `link`, in the order of the calls. While the broker blocks the connection no new
 * message is accepted, because amqplib would buffer it without limit. Unconfirmed messages then fail, since it is
 * unknown when they will arrive. The connection stays: the next would be blocked as well, and the broker keeps blocked
 * connections for as long as it is short of memory or disk.
 */
export function openPublisher(link: Link, user: string, limits: PublisherLimits): Publisher {
  // Messages that the broker returned; the return always comes before the confirm of the same message.
  let returned = new Set<string>();
  let unconfirmed = 0;
  let emptied = Promise.withResolvers<void>();
  /** Functions that stop waiting for each unconfirmed message. */
  const underWay = new Set<() => void>();
  link.onBlocked(() => {
    for (const giveUp of underWay) giveUp();
  });
  const channels = link.keepChannel('publish', async (channel) => {
    returned = new Set();
    channel.on('return', (message) => returned.add(message.properties.messageId));
  });

  function countConfirmed(): void {
    unconfirmed -= 1;
    if (unconfirmed > 0) return;
    emptied.resolve();
    emptied = Promise.withResolvers();
  }

  function send(channel: ConfirmChannel, message: OutgoingMessage): Promise<Confirmed> {
    const { exchange, routingKey, body, properties } = message;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        link.reset(`no confirm within ${limits.confirmTimeoutMs} ms`);
      }, limits.confirmTimeoutMs);
      const giveUp = () => {
        clearTimeout(timer);
        underWay.delete(giveUp);
        reject(dependencyUnavailable('broker', new Error('publishing is blocked')));
      };
      const options = { ...properties, userId: user, mandatory: true, persistent: true };
      unconfirmed += 1;
      underWay.add(giveUp);
      try {
        channel.publish(exchange, routingKey, body, options, (error: unknown) => {
          // Also for a message that failed here: it counts as unconfirmed for as long as amqplib keeps it.
          clearTimeout(timer);
          underWay.delete(giveUp);
          countConfirmed();
          if (error) reject(dependencyUnavailable('broker', error));
          else resolve(returned.delete(properties.messageId) ? 'unrouted' : 'routed');
        });
      } catch (error) {
        // amqplib throws before it sends anything, so there will be no confirm.
        clearTimeout(timer);
        underWay.delete(giveUp);
        countConfirmed();
        reject(dependencyUnavailable('broker', error));
      }
    });
  }

  return {
    ready: () => channels.current() !== null && !link.blocked(),
    publish(message) {
      const channel = channels.current();
      if (!channel) return Promise.reject(dependencyUnavailable('broker', new Error('not connected')));
      if (link.blocked()) return Promise.reject(dependencyUnavailable('broker', new Error('publishing is blocked')));
      if (unconfirmed >= limits.unconfirmedMax) {
        return Promise.reject(overloaded('broker', `${unconfirmed} messages are unconfirmed`));
      }
      return send(channel, message);
    },
    async close(timeoutMs) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, timeoutMs);
      });
      if (unconfirmed > 0 && !link.blocked()) await Promise.race([emptied.promise, late]);
      clearTimeout(timer);
      await channels.release();
    },
  };
}
