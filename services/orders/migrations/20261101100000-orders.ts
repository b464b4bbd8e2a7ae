import type { Migration } from '@armature/runtime/migrations';

export const Migration20261101100000_orders: Migration = {
  name: 'Migration20261101100000_orders',
  up(change) {
    // The read model: what the events of an order add up to.
    change.run(`
      create table if not exists orders (
        order_id char(36) character set ascii collate ascii_bin not null,
        customer_id varchar(64) character set ascii collate ascii_bin not null,
        state varchar(16) character set ascii collate ascii_bin not null,
        lines_json mediumtext not null,
        currency_code char(3) character set ascii not null,
        total_minor bigint not null,
        contact_email varchar(254) not null,
        address_json text not null,
        reason varchar(64) not null default '',
        reason_detail varchar(500) not null default '',
        cancel_requested tinyint not null default 0,
        reservation_id char(36) character set ascii collate ascii_bin not null,
        payment_id char(36) character set ascii collate ascii_bin not null,
        sequence bigint not null,
        created_at datetime(6) not null,
        updated_at datetime(6) not null,
        primary key (order_id),
        key orders_customer (customer_id, order_id),
        key orders_state (state, order_id)
      ) engine = InnoDB default charset = utf8mb4`);
    // The history; only ever added to. The body is an OrderEvent message.
    change.run(`
      create table if not exists order_event (
        order_id char(36) character set ascii collate ascii_bin not null,
        sequence bigint not null,
        body mediumblob not null,
        primary key (order_id, sequence)
      ) engine = InnoDB default charset = utf8mb4`);
  },
};
