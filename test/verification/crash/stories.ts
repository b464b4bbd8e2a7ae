// Kinds of orders that customers of a crash test place, and what each customer does afterwards.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Customer } from './customer.ts';
import type { OrderNote, Story } from './responses.ts';

/** Products: several that never run out, one that does, a free one, one whose price changes. */
export type Product = 'plenty' | 'hot' | 'free' | 'moving';

export interface Plot {
  /** Weight of the story; its share is the weight out of the sum. */
  readonly weight: number;
  /** The test card; one that works by default. */
  readonly card?: string;
  /** Product of each line; by default one line of a product that never runs out. */
  readonly lines?: readonly Product[];
  /** Whether all lines have the same SKU. */
  readonly merged?: boolean;
  /** What the customer does after the order is accepted. `until` aborts at the end of the run. */
  afterwards?(customer: Customer, note: OrderNote, until: AbortSignal): Promise<unknown>;
}

export const plots: Readonly<Record<Story, Plot>> = {
  approved: { weight: 26 },
  'two lines': { weight: 8, lines: ['plenty', 'plenty'] },
  'merged lines': { weight: 5, lines: ['plenty', 'plenty', 'plenty'], merged: true },
  'hot item': { weight: 12, lines: ['hot'] },
  declined: { weight: 12, card: 'card_declined' },
  slow: { weight: 4, card: 'card_slow' },
  'timed out after authorizing': { weight: 5, card: 'card_timeout_after_auth' },
  'timed out before authorizing': { weight: 4, card: 'card_timeout_before_auth' },
  'timed out after capturing': { weight: 5, card: 'card_timeout_after_capture' },
  'failed once': { weight: 4, card: 'card_error_once' },
  'capture refused': { weight: 4, card: 'card_capture_declined' },
  'pending until later': { weight: 6, card: 'card_webhook' },
  'webhook late': { weight: 4, card: 'card_webhook_late' },
  'webhook twice': { weight: 6, card: 'card_webhook_twice' },
  'webhook before the response': { weight: 12, card: 'card_webhook_before_answer' },
  'cancelled while running': {
    weight: 10,
    async afterwards(customer, note) {
      await sleep(customer.random.between(0, 400));
      await customer.cancel(note);
    },
  },
  'cancelled twice': {
    weight: 5,
    async afterwards(customer, note) {
      await sleep(customer.random.between(0, 3_000));
      await Promise.all([customer.cancel(note), customer.cancel(note)]);
    },
  },
  'cancelled late': {
    weight: 6,
    async afterwards(customer, note, until) {
      if (await customer.completed(note)) customer.cancelLate(note, until);
    },
  },
  refunded: {
    weight: 6,
    async afterwards(customer, note) {
      if (await customer.completed(note)) await customer.cancel(note);
    },
  },
  'partly refunded': {
    weight: 8,
    async afterwards(customer, note) {
      const order = await customer.completed(note);
      if (!order) return;
      await customer.refundPart(note, order);
      if (customer.random.next() < 0.6) await customer.cancel(note);
    },
  },
  'refund against cancellation': {
    weight: 5,
    async afterwards(customer, note) {
      const order = await customer.completed(note);
      if (order) await Promise.all([customer.refundPart(note, order), customer.cancel(note)]);
    },
  },
  free: {
    weight: 6,
    lines: ['free'],
    async afterwards(customer, note) {
      if (customer.random.next() < 0.4 && (await customer.completed(note))) await customer.cancel(note);
    },
  },
  'price moved': { weight: 4, lines: ['moving'] },
  'price expected': { weight: 5, lines: ['moving'] },
  'hold expired': { weight: 4, card: 'card_hold_expires' },
  'hold voided outside': { weight: 5, afterwards: (customer, note) => customer.voidOutside(note) },
  abandoned: { weight: 12, afterwards: (customer, note) => customer.abandon(note) },
};

/** Weight of each story. */
export const weights = Object.fromEntries(
  Object.entries(plots).map(([story, { weight }]) => [story, weight]),
) as Readonly<Record<Story, number>>;
