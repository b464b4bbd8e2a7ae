import type { Migration } from '../db/schema-change.ts';

/**
 * Columns that tell an event that a baseline has passed from a duplicate, and an index for the gauges of dead letters.
 */
export const Migration20261127400000_baseline_range: Migration = {
  name: 'Migration20261127400000_baseline_range',
  up(change) {
    // The sequence before its first baseline: the events between the two may never have arrived.
    change.addColumn('inbox_sequence', 'baseline_from', 'bigint unsigned not null default 0');
    // Events up to this one need no effect: a baseline's state includes them, or the operator excluded them.
    change.addColumn('inbox_sequence', 'superseded', 'bigint unsigned not null default 0');
    change.addIndex('dead_letter', 'dead_letter_waiting', '(unknown_type, redriven_at, dropped_at, dead_at)');
  },
};
