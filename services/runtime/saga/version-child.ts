/**
 * A program that runs some versions of a saga until it is killed: database URL, name of the saga, versions, its label.
 */
import { openDatabase } from '../db/database.ts';
import { createLogger } from '../telemetry/log.ts';
import { Registry } from '../telemetry/metrics.ts';
import { type Behaviour, checkout, open } from '../testing/saga.ts';
import { startSagaWorker } from './engine.ts';

const [url = '', name = '', versions = '', label = ''] = process.argv.slice(2);
const timeoutMs = 1_500;
const log = createLogger('test', 'silent');
const registry = new Registry();
const db = await openDatabase({ url, log, registry, poolMax: 6 });
const definitions = versions.split(',').map((version) =>
  checkout(db, {
    ...{ name, version: Number(version), timeoutMs },
    async script(_, { sagaId }): Promise<Behaviour> {
      const values = [sagaId, `version ${version} by ${label}`];
      await db.write(null, (sql) => sql.execute('insert into fact (saga_id, what) values (?, ?)', values));
      return 'work';
    },
  }),
);
startSagaWorker({
  db,
  definitions,
  log,
  registry,
  background: open,
  // The leases of the killed process expire soon after.
  leaseMs: timeoutMs + 1_200,
  pollMs: 20,
  sagasMax: 4,
});
process.stdout.write('ready\n');
