import type { Migration } from '../db/schema-change.ts';

// Ids and names are ASCII and compared byte by byte.
const text = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;
const uuid = 'char(36) character set ascii collate ascii_bin';
const table = 'engine = InnoDB default charset = utf8mb4';

/** The tables that a service needs to publish and consume events. They are the same in every service's schema. */
export const Migration20261101000001_messaging: Migration = {
  name: 'Migration20261101000001_messaging',
  up(change) {
    // `pending` is 1 until the broker has confirmed the row, then null: the index contains only pending rows.
    change.run(`
      create table if not exists outbox (
        position bigint unsigned not null auto_increment,
        message_id ${uuid} not null,
        type ${text(190)} not null,
        routing_key ${text(190)} not null,
        aggregate ${text(64)} not null,
        aggregate_id ${text(64)} not null,
        sequence bigint unsigned not null,
        payload mediumblob not null,
        traceparent ${text(55)} not null,
        policy_version ${text(64)} not null,
        created_by varchar(128) not null,
        created_at datetime(6) not null,
        pending tinyint unsigned null default 1,
        published_at datetime(6) null,
        unrouted tinyint unsigned not null default 0,
        primary key (position),
        unique key outbox_message (message_id),
        unique key outbox_sequence (aggregate, aggregate_id, sequence),
        key outbox_pending (pending, position)
      ) ${table}`);
    change.run(`
      create table if not exists inbox (
        consumer ${text(128)} not null,
        message_id ${uuid} not null,
        type ${text(190)} not null,
        aggregate_id ${text(64)} not null,
        sequence bigint unsigned not null,
        outcome enum('applied', 'skipped', 'dead') not null,
        created_at datetime(6) not null,
        primary key (consumer, message_id)
      ) ${table}`);
    change.run(`
      create table if not exists inbox_sequence (
        consumer ${text(128)} not null,
        aggregate ${text(64)} not null,
        aggregate_id ${text(64)} not null,
        applied bigint unsigned not null,
        primary key (consumer, aggregate, aggregate_id)
      ) ${table}`);
    change.run(`
      create table if not exists dead_letter (
        id ${uuid} not null,
        consumer ${text(128)} not null,
        message_id varchar(255) not null,
        publisher varchar(128) not null,
        type varchar(190) not null,
        routing_key varchar(255) not null,
        aggregate_id varchar(64) null,
        sequence bigint unsigned null,
        body longblob not null,
        headers text not null,
        reason varchar(1000) not null,
        attempts int unsigned not null,
        dead_at datetime(6) not null,
        redriven_at datetime(6) null,
        primary key (id),
        key dead_letter_message (consumer, message_id),
        key dead_letter_open (redriven_at, dead_at)
      ) ${table}`);
    change.run(`
      create table if not exists lease (
        name ${text(64)} not null,
        holder ${uuid} not null,
        token bigint unsigned not null,
        expires_at datetime(6) not null,
        primary key (name)
      ) ${table}`);
  },
};
