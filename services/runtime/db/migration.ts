import type { Migration } from './schema-change.ts';

export const Migration20261101000000_answers: Migration = {
  name: 'Migration20261101000000_answers',
  up(change) {
    change.run(`
      create table if not exists idempotency (
        principal varchar(128) character set ascii collate ascii_bin not null,
        method varchar(128) character set ascii collate ascii_bin not null,
        request_key varchar(64) character set ascii collate ascii_bin not null,
        request_hash binary(32) not null,
        code tinyint unsigned not null,
        body mediumblob not null,
        policy_version varchar(64) character set ascii not null,
        created_at datetime(6) not null,
        primary key (principal, method, request_key),
        key idempotency_created (created_at)
      ) engine = InnoDB default charset = utf8mb4`);
  },
};
