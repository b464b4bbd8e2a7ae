import type { SchemaChange } from '../db/schema-change.ts';

const ascii = 'character set ascii collate ascii_bin';

// Migrations of services call these functions, so their steps never change: a new column gets a function of its own.

/** Gives a table the columns and the index of a job queue. */
export function addQueueColumns(change: SchemaChange, table: string): void {
  change.addColumn(table, 'state', `varchar(16) ${ascii} not null`);
  change.addColumn(table, 'attempts', 'int not null default 0');
  change.addColumn(table, 'last_error', `varchar(500) not null default ''`);
  change.addColumn(table, 'lease_token', 'bigint not null default 0');
  change.addColumn(table, 'lease_expires_at', 'datetime(6) null');
  change.addColumn(table, 'next_attempt_at', 'datetime(6) not null');
  change.addColumn(table, 'created_at', 'datetime(6) not null');
  addClaimColumns(change, table);
}

/**
 * Makes a queue of a table that has all other columns of `addQueueColumns`. Rows that a process of an earlier release
 * inserts have the default priority and no time limit.
 */
export function addClaimColumns(change: SchemaChange, table: string): void {
  change.addColumn(table, 'priority', 'tinyint not null default 1');
  change.addColumn(table, 'give_up_at', 'datetime(6) null');
  change.addIndex(table, claimIndex(table), '(state, priority, next_attempt_at)');
}

export const claimIndex = (table: string): string => `${table}_claim`;
