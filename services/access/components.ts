import { readFile } from 'node:fs/promises';
import type { Decision } from '@armature/proto/access/v1/access.ts';
import {
  type CallContext,
  type Config,
  type Database,
  type ServiceComponents,
  type ServiceDependencies,
  watchers,
} from '@armature/runtime';
import type { config as variables } from './config.ts';
import { consumers } from './consumers.ts';
import { insertDecisions, purgeDecisions } from './history-store.ts';
import { contentsOf } from './policy.ts';
import { ownPolicy } from './policy-source.ts';
import { policyChanges, seed } from './policy-store.ts';
import { accessService } from './service.ts';
import { accessStore } from './store.ts';

/** Interval of polling the head for changes of other instances. */
const headPollMs = 250;

/** Builds the components of the service. It reads the policy from its own tables, not from another service. */
export async function buildAccess({
  config,
  db,
  background,
  log,
}: ServiceDependencies<Config<typeof variables>>): Promise<ServiceComponents> {
  const watching = watchers(headPollMs);
  const change = policyChanges(watching, { reservedGrantable: config.reservedPermissions === 'grantable' });
  const store = accessStore(change);
  const policy = await ownPolicy({
    db,
    watching,
    background,
    log,
    ageMaxMs: config.policyAgeMaxMs,
    async seed(call) {
      if (!config.seedFile) return;
      const contents = contentsOf(await readFile(config.seedFile, 'utf8'), config.seedFile);
      if (await db.transaction(call, (tx) => seed(tx, call, change, contents))) {
        log.info({ file: config.seedFile }, 'the first version of the policy was made from the seed file');
      }
    },
  });
  const due = { name: 'grants that begin or end', everyMs: config.dueIntervalMs, run: store.applyDue(db) };
  const retention = {
    name: 'old decisions',
    everyMs: 600_000,
    run: (call: CallContext) => db.write(call, (sql) => purgeDecisions(sql, config.decisionKeptDays)),
  };
  return {
    services: [accessService(db, store, policy)],
    consumers: consumers(store),
    periodicJobs: [due, retention],
    policy,
    recordDecisions: recordDecisions(db),
  };
}

/** Records the decisions of this service. Other services send theirs by RecordDecisions. */
export const recordDecisions =
  (db: Database) =>
  (call: CallContext, decisions: readonly Decision[]): Promise<void> =>
    db.transaction(call, (tx) => insertDecisions(tx, 'service:access', decisions));
