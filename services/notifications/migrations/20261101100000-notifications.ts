import type { Migration } from '@armature/runtime/migrations';

export const Migration20261101100000_notifications: Migration = {
  name: 'Migration20261101100000_notifications',
  up(change) {
    change.run(`
      create table if not exists delivery (
        delivery_id char(36) character set ascii collate ascii_bin not null,
        order_id char(36) character set ascii collate ascii_bin not null,
        customer_id varchar(64) character set ascii collate ascii_bin not null,
        template varchar(32) character set ascii collate ascii_bin not null,
        recipient varchar(254) not null,
        data_json mediumtext not null,
        state varchar(16) character set ascii collate ascii_bin not null,
        attempts int not null default 0,
        last_error varchar(500) not null default '',
        mail_message_id varchar(128) character set ascii not null,
        lease_token bigint not null default 0,
        lease_expires_at datetime(6) null,
        created_at datetime(6) not null,
        sent_at datetime(6) null,
        next_attempt_at datetime(6) not null,
        primary key (delivery_id),
        unique key delivery_once (order_id, template),
        key delivery_due (state, next_attempt_at)
      ) engine = InnoDB default charset = utf8mb4`);
  },
};
