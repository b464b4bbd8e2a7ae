import type { Migration } from '../db/schema-change.ts';

/** Columns that keep the order of an aggregate across dead letters, baselines and events of unknown types. */
export const Migration20261127100000_event_order: Migration = {
  name: 'Migration20261127100000_event_order',
  up(change) {
    // The last event with an effect here; null for sequences from earlier releases.
    change.addColumn('inbox_sequence', 'handled', 'bigint unsigned null');
    // The last event that a baseline replaced.
    change.addColumn('inbox_sequence', 'baseline', 'bigint unsigned not null default 0');
    // Tells another message under a used id from a second delivery of the same.
    change.addColumn('inbox', 'body_digest', 'binary(16) null');
    // 1: not a failure, but an event of a type that this service does not know yet.
    change.addColumn('dead_letter', 'unknown_type', 'tinyint unsigned not null default 0');
    change.addIndex('dead_letter', 'dead_letter_unknown', '(unknown_type, dead_at)');
    change.addIndex('dead_letter', 'dead_letter_aggregate', '(aggregate_id, sequence)');
    // Decisions that access refuses are marked, with its reason.
    change.addColumn('decision_outbox', 'refused_at', 'datetime(6) null');
    change.addColumn('decision_outbox', 'refusal', "varchar(300) not null default ''");
    change.addIndex('decision_outbox', 'decision_outbox_refused', '(refused_at, position)');
  },
};
