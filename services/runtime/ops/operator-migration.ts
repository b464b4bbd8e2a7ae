import type { Migration } from '../db/schema-change.ts';

const text = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;

/** The actions of operators, and the mark of a dead letter that an operator has dropped. */
export const Migration20261124000000_operators: Migration = {
  name: 'Migration20261124000000_operators',
  up(change) {
    change.addColumn('dead_letter', 'dropped_at', 'datetime(6) null');
    change.addColumn('dead_letter', 'dropped_by', 'varchar(128) null');
    change.addColumn('dead_letter', 'drop_why', 'varchar(300) null');
    // `targets` are the ids that were acted on, selected once: a repeat of the request acts on the same ones.
    change.run(`
      create table if not exists operator_action (
        principal ${text(128)} not null,
        request_id ${text(64)} not null,
        request_hash binary(32) not null,
        method ${text(190)} not null,
        targets text not null,
        more tinyint unsigned not null,
        why varchar(300) not null,
        at datetime(6) not null,
        primary key (principal, request_id, method)
      ) engine = InnoDB default charset = utf8mb4 comment = 'append-only: what operators did'`);
  },
};
