// Ages every row, as after a long outage, so that tests need not wait.
import type { ShopData } from '../verification/invariants/shop-data.ts';

/**
 * Moves every time in the schemas of all services back by this many hours: due rows become overdue, leases end, limits
 * pass. Times in the state of a saga are relative to its start, which moves too. Services that cache rows must not run
 * meanwhile, or they continue with old times.
 */
export async function ageRows(shopData: ShopData, hours: number): Promise<void> {
  const us = hours * 3_600_000_000;
  for (const service of shopData.services) {
    const columns: { name: string; tbl: string }[] = await shopData.within(
      service,
      `select c.column_name as name, c.table_name as tbl from information_schema.columns c
         join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name
       where c.table_schema = database() and t.table_type = 'BASE TABLE' and c.data_type in ('datetime', 'timestamp')`,
    );
    const tables = Map.groupBy(columns, ({ tbl }) => tbl);
    for (const [table, times] of tables) {
      const moved = times.map(({ name }) => `\`${name}\` = \`${name}\` - interval ? microsecond`).join(', ');
      await shopData.query(
        `update {${service}}.\`${table}\` set ${moved}`,
        times.map(() => us),
      );
    }
  }
}
