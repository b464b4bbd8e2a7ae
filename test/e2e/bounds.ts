// Resources that a service holds: a run may increase them while it lasts, but not permanently.
import { setTimeout as sleep } from 'node:timers/promises';
import { connectMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { metricsOf } from '../conformance/metrics-page.ts';
import type { Shop } from './shop.ts';

/** Resources of one service by name: 'timers', 'file handles', 'database connections' and so on. */
export type Holdings = Record<string, Record<string, number>>;

/** Increases that are no leak: pools and caches keep what they have opened until it has been idle long enough. */
const slack: Readonly<Record<string, number>> = {
  'file handles': 8,
  timers: 8,
  'database connections': 8,
  'open transactions': 0,
  'work at the database': 0,
  // Garbage of a burst may not have been collected yet. A leak shows in the other rows first.
  'resident megabytes': 120,
};

export async function holdingsOf(shop: Shop): Promise<Holdings> {
  const services = Object.values(shop.mesh).filter(({ admin }) => admin);
  const connection = await connectMysql(shop.service('orders').database!.adminUrl);
  try {
    const [processes] = await connection.query(
      'select db, count(*) as n from information_schema.processlist group by db',
    );
    const [transactions] = await connection.query(
      `select p.db, count(*) as n from information_schema.innodb_trx x
         join information_schema.processlist p on p.id = x.trx_mysql_thread_id group by p.db`,
    );
    const countOf = (rows: unknown, schema: string | undefined) =>
      Number((rows as { db: string; n: number }[]).find(({ db }) => db === schema)?.n ?? 0);
    const holdings: Holdings = {};
    for (const { name, admin, database } of services) {
      const page = (await metricsOf(admin)).samples;
      const sum = (metric: string, type?: string) =>
        page
          .filter((sample) => sample.name === metric && (type === undefined || sample.labels.type === type))
          .reduce((total, { value }) => total + value, 0);
      holdings[name] = {
        'file handles': sum('process_open_fds'),
        timers: sum('nodejs_active_resources', 'Timeout'),
        'resident megabytes': Math.round(sum('process_resident_memory_bytes') / 2 ** 20),
        'work at the database': sum('armature_db_connections_in_use') + sum('armature_db_waiters'),
        'database connections': countOf(processes, database?.schema),
        'open transactions': countOf(transactions, database?.schema),
      };
    }
    return holdings;
  } finally {
    await connection.end();
  }
}

/** What has grown between two measurements, as sentences. */
export function grown(before: Holdings, after: Holdings): string[] {
  return Object.entries(after).flatMap(([service, held]) =>
    Object.entries(held).flatMap(([what, now]) => {
      const then = before[service]?.[what] ?? 0;
      return now > then + (slack[what] ?? 0) ? [`${service}: ${then} ${what} have become ${now}`] : [];
    }),
  );
}

/** Measures until nothing has grown any more, at most `withinMs`; what has grown then is a leak. */
export async function leaksSince(before: Holdings, shop: Shop, withinMs = 20_000): Promise<string[]> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const leaks = grown(before, await holdingsOf(shop));
    if (leaks.length === 0 || Date.now() > deadline) return leaks;
    await sleep(250);
  }
}
