// Time that passes without waiting for it: every row becomes older, as a long outage leaves it behind.
import type { World } from '../../scripts/verify/world.ts';

/**
 * Moves every time in the schemas of all services back by so many hours: what was due then is overdue, leases have
 * ended, limits have passed. Services that hold rows in memory must not run meanwhile, or they write back what they
 * have. Times inside the state of sagas move too.
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
  await ageSagaStates(world, hours * 3_600_000);
}

async function ageSagaStates(world: World, ms: number): Promise<void> {
  const rows = await world.query<{ saga_id: string; state: string }>('select saga_id, state from {orders}.saga');
  for (const { saga_id, state } of rows) {
    const aged = JSON.stringify(JSON.parse(state, (key, value: unknown) => earlier(key, value, ms)));
    if (aged !== state) await world.query('update {orders}.saga set state = ? where saga_id = ?', [aged, saga_id]);
  }
}

/** Fields named "…Since" or "…At" hold times: milliseconds since 1970, or text as the database or JSON write it. */
function earlier(key: string, value: unknown, ms: number): unknown {
  if (!/(Since|At)(Ms)?$/.test(key)) return value;
  if (typeof value === 'number' && value > 1e12) return value - ms;
  if (typeof value !== 'string' || Number.isNaN(Date.parse(value))) return value;
  const iso = value.includes('T');
  const moved = new Date(Date.parse(iso ? value : `${value.replace(' ', 'T')}Z`) - ms).toISOString();
  return iso ? moved : moved.replace('T', ' ').replace('Z', '');
}
