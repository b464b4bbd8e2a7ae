import type { Migration } from '@armature/runtime/migrations';

// UUIDs may come in either case and mean the same, so their columns keep ASCII's default collation.
const uuid = 'char(36) character set ascii collate ascii_general_ci';
const code = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;
const table = 'engine = InnoDB default charset = utf8mb4';

export const Migration20261101100000_catalog: Migration = {
  name: 'Migration20261101100000_catalog',
  up(change) {
    change.run(`
      create table if not exists category (
        category_id ${uuid} not null,
        slug ${code(64)} not null,
        title varchar(200) not null,
        created_at datetime(6) not null,
        primary key (category_id),
        unique key category_slug (slug)
      ) ${table}`);
    // One index for each filter of the list, so that every page is read where it begins; each index ends
    // with the primary key, which is the order of the list.
    change.run(`
      create table if not exists product (
        product_id ${uuid} not null,
        category_id ${uuid} not null,
        title varchar(200) not null,
        description text not null,
        state ${code(16)} not null,
        version bigint not null,
        created_at datetime(6) not null,
        updated_at datetime(6) not null,
        primary key (product_id),
        key product_state (state, product_id),
        key product_category (category_id, product_id),
        key product_category_state (category_id, state, product_id),
        constraint product_category_exists foreign key (category_id) references category (category_id)
      ) ${table}`);
    // The SKU is the key: one shop, one meaning of a SKU, also after its variant has been retired.
    change.run(`
      create table if not exists variant (
        sku ${code(64)} not null,
        product_id ${uuid} not null,
        title varchar(200) not null,
        ordinal smallint unsigned not null,
        retired tinyint(1) not null default 0,
        primary key (sku),
        key variant_product (product_id, retired, ordinal),
        constraint variant_of_product foreign key (product_id) references product (product_id)
      ) ${table}`);
    change.run(`
      create table if not exists price (
        sku ${code(64)} not null,
        currency_code char(3) character set ascii collate ascii_bin not null,
        amount_minor bigint not null,
        primary key (sku, currency_code),
        constraint price_of_variant foreign key (sku) references variant (sku),
        constraint price_not_negative check (amount_minor >= 0)
      ) ${table}`);
  },
};
