// Time that passes without waiting for it: every row becomes older, as a long outage leaves it behind.
import type { World } from '../verification/invariants/world.ts';

/**
 * Moves every time in the schemas of all services back by so many hours: what was due then is overdue, leases have
 * ended, limits have passed. Times inside the state of a saga count from its beginning, which moves too. Services
 * that hold rows in memory must not run meanwhile, or they go on by what they have.
 */
export async function ageRows(world: World, hours: number): Promise<void> {
  const us = hours * 3_600_000_000;
  for (const service of world.services) {
    const columns: { name: string; tbl: string }[] = await world.within(
      service,
      `select c.column_name as name, c.table_name as tbl from information_schema.columns c
         join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name
       where c.table_schema = database() and t.table_type = 'BASE TABLE' and c.data_type in ('datetime', 'timestamp')`,
    );
    const tables = Map.groupBy(columns, ({ tbl }) => tbl);
    for (const [table, times] of tables) {
      const moved = times.map(({ name }) => `\`${name}\` = \`${name}\` - interval ? microsecond`).join(', ');
      await world.query(
        `update {${service}}.\`${table}\` set ${moved}`,
        times.map(() => us),
      );
    }
  }
}
