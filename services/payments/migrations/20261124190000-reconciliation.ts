import type { Migration } from '@armature/runtime/migrations';

export const Migration20261124190000_reconciliation: Migration = {
  name: 'Migration20261124190000_reconciliation',
  up(change) {
    change.run(`
      create table if not exists reconciliation (
        position bigint not null auto_increment,
        operation_id char(36) character set ascii collate ascii_bin not null,
        resolved_by varchar(200) not null,
        state_before varchar(16) character set ascii collate ascii_bin not null,
        state_after varchar(16) character set ascii collate ascii_bin not null,
        external_id varchar(100) character set ascii collate ascii_bin not null,
        created_at datetime(6) not null,
        primary key (position)
      ) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin
        comment = 'append-only: who resolved which difference with the acquirer'`);
  },
};
