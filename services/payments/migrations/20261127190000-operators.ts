import type { Migration } from '@armature/runtime/migrations';

const id = 'char(36) character set ascii collate ascii_bin';
const word = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;
const table = 'engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin';

/** Holds that end at the acquirer, refunds of the rest, and operations that need an operator. */
export const Migration20261127190000_operators: Migration = {
  name: 'Migration20261127190000_operators',
  up(change) {
    change.run(`alter table payment modify column state ${word(32)} not null`);
    change.addIndex('payment', 'payment_charge', '(charge_id)');
    // A refund of the rest was asked for without an amount; amount_minor is what the rest was.
    change.addColumn('payment_operation', 'rest', 'boolean not null default false');
    // The key that the acquirer sees, where it is not the operation's id, and since when it is in use.
    change.addColumn('payment_operation', 'acquirer_key', `${id} null`);
    change.addColumn('payment_operation', 'acquirer_key_at', 'datetime(6) null');
    change.addUniqueIndex('payment_operation', 'operation_acquirer_key', '(acquirer_key)');
    change.addColumn('payment_operation', 'needs_operator_at', 'datetime(6) null');
    change.addIndex('payment_operation', 'operation_needs_operator', '(needs_operator_at, operation_id)');
    change.run(`
      create table if not exists operation_resolution (
        position bigint not null auto_increment,
        resolution_id ${id} not null,
        operation_id ${id} not null,
        resolution ${word(32)} not null,
        reason varchar(300) not null,
        resolved_by varchar(200) not null,
        state_before ${word(16)} not null,
        state_after ${word(16)} not null,
        external_id ${word(100)} not null,
        created_at datetime(6) not null,
        primary key (position),
        unique key operation_resolution_id (resolution_id),
        key operation_resolution_operation (operation_id, position)
      ) ${table} comment = 'append-only: how operators ended operations'`);
  },
};
