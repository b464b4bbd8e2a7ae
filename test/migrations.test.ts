import { migrate } from '@armature/runtime/migrations';
import t from 'tap';
import { storingServices } from '../services/manifest.ts';
import { createDatabase } from './support/infra.ts';
import { migrateProcess, migrationsOf, schemaSnapshot, statementCount } from './support/migrating.ts';

// Each service is migrated some thirty times.
t.setTimeout(180_000);

class Interrupted extends Error {}

for (const service of storingServices) {
  t.test(`${service}: a migration interrupted after any statement is finished by the next run`, async (t) => {
    const migrations = await migrationsOf(service);
    const whole = await createDatabase(t, service);
    const statements: string[] = [];
    await migrate(whole.migratorUrl, migrations, { afterStatement: (statement) => void statements.push(statement) });
    const broken = await createDatabase(t, service);
    // Each run ends at the first statement that no run before it has reached, so the next one finds what is left
    // behind at every place in turn.
    const reached = new Set<string>();
    const migrateOnce = () =>
      migrate(broken.migratorUrl, migrations, {
        afterStatement(statement) {
          if (reached.has(statement)) return;
          reached.add(statement);
          throw new Interrupted(statement);
        },
      });
    for (;;) {
      const [end] = await Promise.allSettled([migrateOnce()]);
      if (end.status === 'fulfilled') break;
      if (!(end.reason instanceof Interrupted)) throw end.reason;
    }
    t.equal(reached.size, new Set(statements).size, 'interrupted once at every statement');
    t.strictSame(await schemaSnapshot(broken), await schemaSnapshot(whole));
    t.strictSame(await migrate(broken.migratorUrl, migrations), [], 'nothing is left to do');
  });
}

t.test('a process killed between two statements of a migration is followed by one that finishes it', async (t) => {
  const migrations = await migrationsOf('identity');
  const [whole, broken] = [await createDatabase(t, 'identity'), await createDatabase(t, 'identity')];
  await migrate(whole.migratorUrl, migrations);
  t.equal(await migrateProcess('identity', broken, statementCount(migrations) - 5), null, 'killed');
  t.match(await migrateProcess('identity', broken), /applied Migration/);
  t.strictSame(await schemaSnapshot(broken), await schemaSnapshot(whole));
});
