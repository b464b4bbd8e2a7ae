import { join } from 'node:path';
import { openLog } from './log.ts';

/** The end of one event: it needs no more attempts. Events up to `through` have all ended. */
type EventEnd = { operation_position: number; outcome: 'delivered' | 'given_up'; attempts: number; through: number };

/**
 * Which events have ended, by the positions of their operations. It is a log of its own, so that a restart continues
 * where the process ended: an event without an entry is sent again.
 */
export type WebhookProgress = {
  /** The position up to which all events have ended. A restart reads operations from there. */
  through(): number;
  /** Whether the event of this operation had ended before the restart. Asked once for each operation. */
  takeEnded(position: number): boolean;
  /** Records that an event has ended, and the position up to which all have. */
  append(end: EventEnd): Promise<void>;
  close(): Promise<void>;
};

export async function openWebhookProgress(dataDirectory: string): Promise<WebhookProgress> {
  let through = 0;
  const ended = new Set<number>();
  const log = await openLog<EventEnd>(join(dataDirectory, 'webhooks.jsonl'), (entry) => {
    ended.add(entry.operation_position);
    if (entry.through <= through) return;
    through = entry.through;
    for (const position of ended) if (position <= through) ended.delete(position);
  });
  return {
    through: () => through,
    takeEnded: (position) => ended.delete(position),
    async append(end) {
      through = end.through;
      await log.append(end);
    },
    close: log.close,
  };
}
