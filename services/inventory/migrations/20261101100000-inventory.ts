import type { Migration } from '@armature/runtime/migrations';

export const Migration20261101100000_inventory: Migration = {
  name: 'Migration20261101100000_inventory',
  up(change) {
    change.run(`
      create table if not exists stock (
        sku varchar(64) character set ascii collate ascii_bin not null,
        location_id varchar(32) character set ascii collate ascii_bin not null,
        on_hand bigint not null,
        reserved bigint not null default 0,
        version bigint not null default 1,
        updated_at datetime(6) not null,
        primary key (sku, location_id),
        constraint stock_never_oversold check (reserved >= 0 and reserved <= on_hand)
      ) engine = InnoDB default charset = utf8mb4`);
    change.run(`
      create table if not exists reservation (
        reservation_id char(36) character set ascii collate ascii_bin not null,
        order_id char(36) character set ascii collate ascii_bin not null,
        state varchar(16) character set ascii collate ascii_bin not null,
        expires_at datetime(6) not null,
        created_at datetime(6) not null,
        updated_at datetime(6) not null,
        version bigint not null,
        primary key (reservation_id),
        key reservation_order (order_id),
        key reservation_due (state, expires_at)
      ) engine = InnoDB default charset = utf8mb4`);
    change.run(`
      create table if not exists reservation_line (
        reservation_id char(36) character set ascii collate ascii_bin not null,
        sku varchar(64) character set ascii collate ascii_bin not null,
        location_id varchar(32) character set ascii collate ascii_bin not null,
        quantity bigint not null,
        primary key (reservation_id, sku, location_id)
      ) engine = InnoDB default charset = utf8mb4`);
    // The journal of everything that enters or leaves a shelf; only ever added to.
    change.run(`
      create table if not exists movement (
        position bigint not null auto_increment,
        sku varchar(64) character set ascii collate ascii_bin not null,
        location_id varchar(32) character set ascii collate ascii_bin not null,
        kind varchar(16) character set ascii collate ascii_bin not null,
        quantity bigint not null,
        reservation_id char(36) character set ascii collate ascii_bin null,
        note varchar(200) not null default '',
        created_at datetime(6) not null,
        primary key (position),
        key movement_sku (sku, location_id, position)
      ) engine = InnoDB default charset = utf8mb4`);
  },
};
