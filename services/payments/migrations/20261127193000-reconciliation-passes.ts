import type { Migration } from '@armature/runtime/migrations';

const word = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;
const table = 'engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin';

/** What the periodic reconciliation keeps: how far it is, and the differences that stand. */
export const Migration20261127193000_reconciliation_passes: Migration = {
  name: 'Migration20261127193000_reconciliation_passes',
  up(change) {
    change.run(`alter table reconciliation modify column state_before ${word(32)} not null`);
    change.run(`alter table reconciliation modify column state_after ${word(32)} not null`);
    change.run(`
      create table if not exists reconciliation_position (
        pass ${word(16)} not null,
        position bigint not null,
        begun_at datetime(6) not null,
        caught_up_at datetime(6) null,
        primary key (pass)
      ) ${table}`);
    change.run(`
      create table if not exists reconciliation_difference (
        direction ${word(16)} not null,
        external_id ${word(100)} not null,
        kind ${word(32)} not null,
        position bigint not null,
        operation_id ${word(36)} not null,
        payment_id ${word(36)} not null,
        ours varchar(200) not null,
        theirs varchar(200) not null,
        first_seen_at datetime(6) not null,
        last_seen_at datetime(6) not null,
        primary key (direction, external_id),
        key reconciliation_difference_first (first_seen_at, external_id, direction),
        key reconciliation_difference_last (direction, last_seen_at),
        key reconciliation_difference_kind (kind)
      ) ${table}`);
  },
};
