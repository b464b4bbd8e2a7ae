import type { Migration } from '@armature/runtime/migrations';

export const Migration20261124180000_webhooks: Migration = {
  name: 'Migration20261124180000_webhooks',
  up(change) {
    // Events of the acquirer that had an effect, each written in the transaction of its effect.
    change.run(`
      create table if not exists webhook_event (
        event_id varchar(100) character set ascii collate ascii_bin not null,
        operation_id char(36) character set ascii collate ascii_bin not null,
        received_at datetime(6) not null,
        primary key (event_id),
        key webhook_event_received (received_at)
      ) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin`);
  },
};
