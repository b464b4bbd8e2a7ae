import type { Migration } from '../db/schema-change.ts';

const text = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;

/** Authorization decisions that wait to be sent to access, which stores them. */
export const Migration20261101000003_decisions: Migration = {
  name: 'Migration20261101000003_decisions',
  up(change) {
    change.run(`
      create table if not exists decision_outbox (
        position bigint unsigned not null auto_increment,
        decision_id char(36) character set ascii collate ascii_bin not null,
        workload ${text(80)} not null,
        subject ${text(80)} not null,
        permission ${text(98)} not null,
        target ${text(190)} not null,
        allowed tinyint unsigned not null,
        reason varchar(300) not null,
        policy_version ${text(64)} not null,
        call_id varchar(64) not null,
        times int unsigned not null,
        decided_at datetime(6) not null,
        primary key (position)
      ) engine = InnoDB default charset = utf8mb4`);
  },
};
