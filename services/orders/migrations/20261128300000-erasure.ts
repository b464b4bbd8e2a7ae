import type { Migration } from '@armature/runtime/migrations';

/** Erasure of personal data: whose, and which orders have none any more. */
export const Migration20261128300000_erasure: Migration = {
  name: 'Migration20261128300000_erasure',
  up(change) {
    change.addColumn('orders', 'erased_at', 'datetime(6) null');
    // Customers whose accounts were erased. Their orders are looked for until `due_at` is null.
    change.run(`
      create table if not exists erased_customer (
        customer_id varchar(64) character set ascii collate ascii_bin not null,
        erased_at datetime(6) not null,
        due_at datetime(6) null,
        primary key (customer_id),
        key erased_customer_due (due_at)
      ) engine = InnoDB default charset = utf8mb4`);
    // The history is append-only for the service's account, and earlier releases wrote the e-mail address into it. This
    // procedure replaces the address by as many hyphens, in events of an order that still has the address in its row.
    change.addProcedure(
      'mask_order_contact',
      'in masked char(36) character set ascii collate ascii_bin',
      `begin
        declare contact varbinary(1016);
        set contact = (select cast(contact_email as binary) from orders where order_id = masked);
        if length(contact) > 0 then
          update order_event set body = replace(body, contact, repeat('-', length(contact)))
          where order_id = masked and locate(contact, body) > 0;
        end if;
      end`,
    );
  },
};
