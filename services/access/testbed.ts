import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { accessClient } from '@armature/clients';
import type { Rule } from '@armature/proto/access/v1/access.ts';
import { Scope } from '@armature/proto/access/v1/access.ts';
import { background } from '@armature/runtime/context';
import { openDatabase } from '@armature/runtime/db';
import { migrate, runtimeMigrations } from '@armature/runtime/migrations';
import { watchers } from '@armature/runtime/service';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import { createDatabase, type Teardown } from '../../test/support/infra.ts';
import { type RunningService, token, workloadCertificate } from '../../test/support/service.ts';

import { entities } from './entities.ts';
import { migrations } from './migrations/index.ts';
import { contentsOf } from './policy.ts';
import { policyChanges, seed } from './policy-store.ts';
import { accessStore } from './store.ts';

export const seedText = readFileSync(join(import.meta.dirname, '../../deploy/policy.csv'), 'utf8');

/** A new schema, with the store and the policy over it, without a running service. */
export async function openTables(t: Teardown) {
  const database = await createDatabase(t, 'access');
  await migrate(database.migratorUrl, [...runtimeMigrations, ...migrations]);
  await database.migrated();
  const instance = async () => {
    const log = createLogger('access', 'silent');
    const db = await openDatabase({ url: database.url, entities, log, registry: new Registry() });
    t.teardown(() => db.close());
    const watching = watchers(250);
    const change = policyChanges(watching);
    return { db, watching, change, store: accessStore(change), background: background('access', log), log };
  };
  return { database, instance };
}

export type Instance = Awaited<ReturnType<Awaited<ReturnType<typeof openTables>>['instance']>>;

/** Makes version 1 of this text, unless there is one. */
export function seedWith({ db, change, background }: Instance, text = seedText): Promise<boolean> {
  const call = background('seed', 20_000);
  return db.transaction(call, (tx) => seed(tx, call, change, contentsOf(text, 'policy.csv')));
}

export type AccessClient = ReturnType<typeof accessClient>;

/** A client of a developer who carries a user's token. */
export async function clientOf(service: RunningService, user: string): Promise<AccessClient> {
  const bearer = await token(user);
  return accessClient({
    addresses: [service.grpc],
    tls: await workloadCertificate('developer'),
    token: () => bearer,
  });
}

/** A client with the certificate of another service and without a user's token. */
export async function serviceClient(service: RunningService, name: string): Promise<AccessClient> {
  return accessClient({ addresses: [service.grpc], tls: await workloadCertificate(name) });
}

export const any = (permission: string): Rule => ({ permission, scope: Scope.SCOPE_ANY });

/** Polls until `ask` returns a value, at most for `withinMs`. */
export async function eventually<T>(what: string, ask: () => Promise<T | undefined | false>, withinMs = 15_000) {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const found = await ask();
    if (found) return found;
    await sleep(5);
    if (Date.now() > deadline) throw new Error(`${what}: not within ${withinMs} ms`);
  }
}
