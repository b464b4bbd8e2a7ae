import { migrate, runtimeMigrations } from '@armature/runtime/migrations';
import t from 'tap';
import { storingServices } from '../../../services/manifest.ts';
import { createDatabase } from '../../support/infra.ts';
import { migrateProcess, migrationsOf, schemaSnapshot, statementCount } from '../../support/migrating.ts';

// Each statement needs two processes, one after another.
t.setTimeout(1_800_000);

for (const [index, service] of storingServices.entries()) {
  t.test(
    `${service}: a process killed after any statement of its migrations is followed by one that finishes`,
    async (t) => {
      const migrations = await migrationsOf(service);
      const whole = await createDatabase(t, service);
      await migrate(whole.migratorUrl, migrations);
      const expected = await schemaSnapshot(whole);
      // The runtime's migrations are the same for all services, so they are tested with the first.
      const first = index === 0 ? 1 : statementCount(runtimeMigrations);
      for (let pass = first; pass <= statementCount(migrations); pass += 1) {
        const broken = await createDatabase(t, service);
        t.equal(await migrateProcess(service, broken, pass), null, `killed after statement ${pass}`);
        await migrateProcess(service, broken);
        t.strictSame(await schemaSnapshot(broken), expected, `complete after ${pass}`);
      }
    },
  );
}
