import { type Migration, Migrator } from '@mikro-orm/migrations';
import { MikroORM } from '@mikro-orm/mysql';
import { driverUrl } from './tls.ts';

export type MigrationClass = new (...args: ConstructorParameters<typeof Migration>) => Migration;

/**
 * Brings a schema up to date: forward only, each migration once, in the order of their names. Two that
 * run at once wait for each other by a named lock. Returns the names of those that were applied.
 */
export async function migrate(url: string, migrations: readonly MigrationClass[]): Promise<string[]> {
  const { url: clientUrl, driverOptions } = driverUrl(url);
  const orm = await MikroORM.init({
    clientUrl,
    driverOptions,
    entities: [],
    extensions: [Migrator],
    discovery: { warnWhenNoEntities: false },
    ensureDatabase: false,
    pool: { min: 0, max: 2 },
    migrations: {
      tableName: 'migration',
      migrationsList: migrations.map((one) => ({ name: one.name, class: one })),
      snapshot: false,
      // DDL commits by itself on MySQL, so a transaction around it would promise what it cannot keep.
      transactional: false,
      silent: true,
    },
    debug: false,
  });
  try {
    // The lock belongs to a connection, so it is held inside a transaction that keeps one to itself.
    return await orm.em.transactional(async (em) => {
      await em.execute("select get_lock(concat(database(), '.migration'), 60)");
      try {
        const applied = await orm.migrator.up();
        return applied.map((migration) => migration.name);
      } finally {
        await em.execute("select release_lock(concat(database(), '.migration'))");
      }
    });
  } finally {
    await orm.close(true);
  }
}
