import type { PeriodicJob } from '../context/background.ts';
import type { Database } from '../db/database.ts';
import { purgeStoredResponses } from '../idempotency/stored-responses.ts';
import { purgeDeadLetters } from '../messaging/dead-letter-retention.ts';
import type { Messaging } from '../messaging/messaging.ts';
import type { SagaDefinition } from '../saga/engine.ts';
import { purgeSagas, removeSecrets } from '../saga/retention.ts';

const responsesKeptHours = 48;

/** Periodic jobs that delete old rows of the runtime's tables. */
export function retentionJobs(
  db: Database,
  messaging: Pick<Messaging, 'purge'>,
  sagas: readonly SagaDefinition[],
  sagaKeptDays: number,
): PeriodicJob[] {
  return [
    {
      name: 'old responses',
      everyMs: 60_000,
      run: (call) => db.write(call, (sql) => purgeStoredResponses(sql, responsesKeptHours)),
    },
    { name: 'old events', everyMs: 60_000, run: () => messaging.purge(db) },
    { name: 'ended sagas', everyMs: 600_000, run: (call) => purgeSagas(db, call, sagaKeptDays) },
    { name: 'secrets of sagas', everyMs: 60_000, run: () => removeSecrets(db, sagas) },
    { name: 'resolved dead letters', everyMs: 600_000, run: () => purgeDeadLetters(db) },
  ];
}
