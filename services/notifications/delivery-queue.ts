import { jobQueue } from '@armature/runtime/jobs';
import type { State, Template } from './delivery.ts';

/** A row of the table `delivery`, without the columns that only the queue reads. */
export interface DeliveryRow {
  delivery_id: string;
  order_id: string;
  customer_id: string;
  template: Template;
  recipient: string;
  data_json: string;
  state: State;
  attempts: number;
  last_error: string;
  mail_message_id: string;
  created_at: string;
  sent_at: string | null;
  next_attempt_at: string;
}

/** The queue of e-mails to customers. The table `delivery` is also the list of what was sent. */
export const deliveryQueue = (config: { maxAttempts: number; initialBackoffMs: number; deliveryKeptDays: number }) =>
  jobQueue<DeliveryRow>({
    name: 'mail',
    table: 'delivery',
    idColumn: 'delivery_id',
    doneState: 'SENT',
    doneAtColumn: 'sent_at',
    retry: {
      maxAttempts: config.maxAttempts,
      initialBackoffMs: config.initialBackoffMs,
      maxBackoffMs: 3_600_000,
      maxElapsedMs: 86_400_000,
    },
    retention: { column: 'created_at', days: { SENT: config.deliveryKeptDays, SKIPPED: config.deliveryKeptDays } },
  });
