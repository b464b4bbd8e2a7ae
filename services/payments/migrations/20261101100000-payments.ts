import type { Migration } from '@armature/runtime/migrations';

const id = 'char(36) character set ascii collate ascii_bin';
const word = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;
const table = 'engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin';

export const Migration20261101100000_payments: Migration = {
  name: 'Migration20261101100000_payments',
  up(change) {
    change.run(`
      create table if not exists payment (
        payment_id ${id} not null,
        order_id ${id} not null,
        customer_id varchar(64) not null,
        state ${word(16)} not null,
        currency_code ${word(3)} not null,
        amount_minor bigint not null,
        captured_minor bigint not null default 0,
        refunded_minor bigint not null default 0,
        refunding_minor bigint not null default 0,
        decline_code ${word(100)} not null default '',
        charge_id ${word(100)} not null default '',
        authorize_operation_id ${id} null,
        exclusive_operation_id ${id} null,
        events bigint not null default 0,
        entries bigint not null default 0,
        entry_hash binary(32) not null,
        created_at datetime(6) not null,
        updated_at datetime(6) not null,
        version bigint not null default 1,
        primary key (payment_id),
        key payment_order (order_id),
        constraint payment_captured_within_hold check (captured_minor >= 0 and captured_minor <= amount_minor),
        constraint payment_refunded_within_capture check (
          refunded_minor >= 0 and refunding_minor >= 0 and refunded_minor + refunding_minor <= captured_minor)
      ) ${table}`);
    // One row per intent to move money; the id is the idempotency key that the acquirer sees.
    change.run(`
      create table if not exists payment_operation (
        operation_id ${id} not null,
        payment_id ${id} not null,
        kind ${word(16)} not null,
        state ${word(16)} not null,
        amount_minor bigint not null,
        request_hash binary(32) not null,
        external_id ${word(100)} not null default '',
        failure_code ${word(100)} not null default '',
        created_at datetime(6) not null,
        attempted_at datetime(6) not null,
        resolve_at datetime(6) not null,
        primary key (operation_id),
        key operation_payment (payment_id),
        key operation_due (state, resolve_at)
      ) ${table}`);
    change.run(`
      create table if not exists ledger_entry (
        position bigint not null auto_increment,
        entry_id ${id} not null,
        payment_id ${id} not null,
        sequence bigint not null,
        kind ${word(16)} not null,
        external_id ${word(100)} not null,
        hash binary(32) not null,
        created_at datetime(6) not null,
        primary key (position),
        unique key entry_id (entry_id),
        unique key entry_payment (payment_id, sequence),
        unique key entry_external (external_id)
      ) ${table} comment = 'append-only: the ledger'`);
    change.run(`
      create table if not exists ledger_posting (
        position bigint not null,
        line tinyint unsigned not null,
        account ${word(64)} not null,
        currency_code ${word(3)} not null,
        amount_minor bigint not null,
        pending boolean not null,
        primary key (position, line),
        key posting_account (account, position)
      ) ${table} comment = 'append-only: the ledger'`);
    change.run(`
      create table if not exists account_balance (
        account ${word(64)} not null,
        currency_code ${word(3)} not null,
        shard tinyint unsigned not null,
        posted_minor bigint not null,
        pending_minor bigint not null,
        primary key (account, currency_code, shard)
      ) ${table}`);
  },
};
