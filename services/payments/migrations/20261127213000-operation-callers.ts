import type { Migration } from '@armature/runtime/migrations';

const word = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;

/** Who asked for an operation, and a keyed digest of the payment method. Rows from before have neither. */
export const Migration20261127213000_operation_callers: Migration = {
  name: 'Migration20261127213000_operation_callers',
  up(change) {
    change.addColumn('payment_operation', 'asked_by', `${word(128)} null`);
    change.addColumn('payment_operation', 'method_digest', 'binary(32) null');
    change.addColumn('payment_operation', 'method_hash_version', 'tinyint unsigned not null default 0');
    change.addColumn('payment_operation', 'method_hash_key', `${word(16)} not null default ''`);
  },
};
