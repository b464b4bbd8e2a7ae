import type { Migration } from '../db/schema-change.ts';

// Ids and names are ASCII and compared byte by byte.
const text = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;
const uuid = 'char(36) character set ascii collate ascii_bin';
const table = 'engine = InnoDB default charset = utf8mb4';

export const Migration20261101000002_saga: Migration = {
  name: 'Migration20261101000002_saga',
  up(change) {
    // `due_at` is when a worker may take the saga: at once, after a pause, or when its current lease ends. It is null
    // once the saga rests, so that its index contains only unfinished work.
    change.run(`
      create table if not exists saga (
        saga_id ${uuid} not null,
        name ${text(64)} not null,
        subject_id ${text(64)} not null,
        status ${text(16)} not null,
        state longtext not null,
        results longtext not null,
        data longtext not null,
        version int unsigned not null default 0,
        lease_holder ${uuid} null,
        lease_token bigint unsigned not null,
        due_at datetime(6) null,
        deadline_at datetime(6) not null,
        traceparent ${text(55)} null,
        created_at datetime(6) not null,
        updated_at datetime(6) not null,
        primary key (saga_id),
        unique key saga_subject (name, subject_id),
        key saga_due (due_at),
        key saga_status (status, name, created_at)
      ) ${table}`);
    // One row per applied input, in order: replaying them gives the state.
    change.run(`
      create table if not exists saga_log (
        saga_id ${uuid} not null,
        position int unsigned not null,
        step ${text(64)} not null,
        kind ${text(16)} not null,
        outcome ${text(16)} not null,
        attempt int unsigned not null,
        detail text not null,
        at datetime(6) not null,
        primary key (saga_id, position)
      ) ${table} comment = 'append-only: the history of sagas'`);
  },
};
