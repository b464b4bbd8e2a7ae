import type { CallContext } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import { oldestIdOf } from '../id/id.ts';
import type { SagaDefinition } from './definition.ts';

/** Most sagas that one run deletes. */
const sagasMax = 200;
/** The procedure that deletes histories keeps younger ones; see retention-migration.ts. */
const logKeptDays = 90;

/**
 * Deletes sagas that have ended and began more than `keptDays` ago, oldest first, each with its history. Sagas that
 * have not ended are kept, however old. A bounded number at a time; returns how many.
 */
export async function purgeSagas(
  db: Pick<Database, 'transaction'>,
  call: CallContext,
  keptDays: number,
): Promise<number> {
  const before = oldestIdOf(new Date(Date.now() - keptDays * 86_400_000));
  return db.transaction(call, async (tx) => {
    // By the primary key, which sorts by time: few rows are before the limit once the job has run.
    const ended = await tx.query<{ id: string }>(
      `select saga_id as id from saga force index (primary)
       where saga_id < ? and status in ('COMPLETED', 'FAILED')
         and updated_at < utc_timestamp(6) - interval ${logKeptDays + 1} day order by saga_id limit ${sagasMax} for update`,
      [before],
    );
    if (ended.length === 0) return 0;
    const ids = ended.map(({ id }) => id);
    await tx.execute('delete from saga where saga_id in (?)', [ids]);
    for (const id of ids) await tx.execute('call purge_saga_log(?)', [id]);
    return ids.length;
  });
}

/** Most sagas that one run of `removeSecrets` changes, of each name. */
const secretsMax = 500;

/**
 * Removes secrets, such as payment tokens, from ended sagas that still have them: those that ended in an earlier
 * release, and those that a process of such a release ends beside this one. This release removes them in the
 * transaction that ends a saga. A bounded number at a time; returns how many sagas changed.
 */
export async function removeSecrets(
  db: Pick<Database, 'write'>,
  definitions: readonly Pick<SagaDefinition, 'name' | 'secrets'>[],
  limit = secretsMax,
): Promise<number> {
  let changed = 0;
  for (const [name, versions] of Map.groupBy(definitions, (definition) => definition.name)) {
    const paths = [...new Set(versions.flatMap(({ secrets }) => secrets))].map((field) => `$."${field}"`);
    const data = paths.length > 0 ? `data = json_remove(data, ${paths.map(() => '?').join(', ')}), ` : '';
    const { affectedRows } = await db.write(null, (sql) =>
      sql.execute(
        `update saga force index (saga_secrets) set ${data}secrets_removed = 1
         where secrets_removed = 0 and status in ('COMPLETED', 'FAILED') and name = ? limit ?`,
        [...paths, name, limit],
      ),
    );
    changed += affectedRows;
  }
  return changed;
}
