import { randomUUID } from 'node:crypto';
import type { Tx } from '@armature/runtime';
import { openDatabase } from '@armature/runtime/db';
import { newId, oldestIdOf } from '@armature/runtime/id';
import { assertInOrder, countForeign, selectPending } from '@armature/runtime/messaging';
import { migrate } from '@armature/runtime/migrations';
import {
  endLease,
  leaseLocked,
  lockOverdue,
  lockPartition,
  releaseLease,
  reload,
  renewLease,
} from '@armature/runtime/saga';
import { createLogger, Registry } from '@armature/runtime/telemetry';
import { open } from '@armature/runtime/testing';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import { presentServices } from '../../../scripts/devmesh/services.ts';
import { artifactStore } from '../../../services/identity/artifact-store.ts';
import { emailStore } from '../../../services/identity/email-store.ts';
import { sealing } from '../../../services/identity/sealing.ts';
import { sessionStore } from '../../../services/identity/session-store.ts';
import { accountStore } from '../../../services/identity/store.ts';
import { servicePlans } from '../../../services/manifest.ts';
import { resolutionsOf } from '../../../services/payments/operation-store.ts';
import { paymentStore } from '../../../services/payments/store.ts';
import type { Shop } from '../../e2e/shop.ts';
import { createDatabase, type Teardown, type TestDatabase } from '../../support/infra.ts';
import { migrationsOf } from '../../support/migrating.ts';

type Values = Record<string, string | number | Date | null>;

const insert = ({ adminUrl }: TestDatabase, table: string, values: Values) =>
  withConnection(adminUrl, (connection) => connection.query('insert into ?? set ?', [table, values]));

/** Dead letters in notifications. */
export const deadLetters = { toRedrive: newId(), toDrop: newId() };

const daysAgo = (days: number) => new Date(Date.now() - days * 86_400_000);

/**
 * Migrated schemas of all services with rows for the periodic jobs to work on at start. The jobs then send statements
 * that they do not send otherwise.
 */
export async function schemasWithBacklog(t: Teardown): Promise<ReadonlyMap<string, TestDatabase>> {
  const databases = new Map<string, TestDatabase>();
  for (const name of presentServices().filter((one) => servicePlans[one].stores)) {
    const database = await createDatabase(t, name);
    await migrate(database.migratorUrl, await migrationsOf(name));
    await database.migrated();
    databases.set(name, database);
    await backlog[name]?.(database);
  }
  return databases;
}

const backlog: Record<string, (database: TestDatabase) => Promise<void>> = {
  async orders(database) {
    const at = daysAgo(450);
    const sagaId = oldestIdOf(at);
    await insert(database, 'saga', {
      ...{ saga_id: sagaId, name: 'checkout', subject_id: newId(), status: 'COMPLETED', state: '{}', results: '{}' },
      ...{ data: '{}', lease_token: 1, deadline_at: at, created_at: at, updated_at: at },
    });
  },
  async notifications(database) {
    await insert(database, 'inbox', {
      ...{ consumer: 'notifications.orders.order', message_id: oldestIdOf(daysAgo(30)), type: 'a', aggregate_id: 'a' },
      ...{ sequence: 1, outcome: 'applied', created_at: daysAgo(30) },
    });
    for (const id of Object.values(deadLetters)) {
      await insert(database, 'dead_letter', {
        ...{ id, consumer: 'notifications.orders.order', message_id: newId(), publisher: 'orders' },
        ...{
          type: 'armature.orders.v1.OrderConfirmed',
          routing_key: 'orders.order',
          aggregate_id: newId(),
          sequence: 2,
        },
        ...{ body: '', headers: '{}', reason: 'none', attempts: 1, dead_at: daysAgo(0) },
      });
    }
  },
  async inventory(database) {
    // Access rejects its id, and its position means that many rows were sent before.
    await insert(database, 'decision_outbox', {
      ...{ position: 200_000, decision_id: 'none', workload: 'w', subject: 's', permission: 'p', target: '' },
      ...{ allowed: 0, reason: '', policy_version: '', call_id: '', times: 1, decided_at: daysAgo(8) },
    });
  },
  async identity(database) {
    const at = daysAgo(30);
    await insert(database, 'account', {
      ...{ user_id: newId(), email: 'a@example.org', email_key: 'a@example.org', display_name: 'A', state: 'PENDING' },
      ...{ sequence: 1, created_at: at, updated_at: at },
    });
    await insert(database, 'letter', {
      ...{ letter_id: newId(), kind: 'password_changed', recipient: 'b@example.org', recipient_key: 'b@example.org' },
      ...{ state: 'QUEUED', next_attempt_at: at, created_at: at, expires_at: daysAgo(-1) },
    });
  },
};

/** Makes rows of payments and access due while the services run. */
export async function letTimesCome({ mesh }: Shop): Promise<void> {
  await withConnection(mesh.payments!.database!.adminUrl, async (connection) => {
    // As if their callers were killed: one operation can be queried at the acquirer, the key of the other may have
    // expired there.
    const pending = "update payment_operation set state = 'PENDING', resolve_at = utc_timestamp(6)";
    await connection.query(`${pending} where kind = 'refund' limit 1`);
    const old = "acquirer_key = 'none', acquirer_key_at = '2020-01-01'";
    await connection.query(`${pending}, ${old} where kind = 'capture' order by operation_id desc limit 1`);
  });
  const database = mesh.access!.database!;
  const at = daysAgo(1);
  const grant = { role: 'role:staff', granted_by: 'test', created_at: at, version: 1 };
  await insert(database, 'denied_subject', { subject: 'user:eve', end_at: at, created_at: at });
  await until('the denial has ended', () => isEmpty(database, 'denied_subject', 'end_at < now() and ended_at is null'));
  const ended = { grant_id: newId(), member: 'user:mal', state: 'LIVE', end_at: at };
  const begun = { grant_id: newId(), member: 'user:mel', state: 'WAITING', start_at: at };
  for (const one of [ended, begun]) await insert(database, 'role_grant', { ...grant, ...one });
  await until('the grant has ended', () => isEmpty(database, 'role_grant', "state = 'LIVE' and end_at < now()"));
}

async function isEmpty({ adminUrl }: TestDatabase, table: string, where: string): Promise<boolean> {
  const [rows] = await withConnection(adminUrl, (one) => one.query(`select 1 from ${table} where ${where} limit 1`));
  return (rows as unknown[]).length === 0;
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 20_000; !(await condition()); ) {
    if (Date.now() > end) throw new Error(`not within 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Calls the parts of background work that run only with full slots, long calls or absent consumers. */
export async function doRareWork({ mesh }: Shop): Promise<void> {
  const { url } = mesh.orders!.database!;
  const db = await openDatabase({ url, log: createLogger('test', 'silent'), registry: new Registry() });
  const call = open('test', 10_000);
  const partition = { name: 'checkout', version: 2, dependency: 'inventory', urgent: false };
  const sagaId = newId();
  const saga = { sagaId, subjectId: '', data: {}, traceparent: null, token: 1n, results: {}, version: 1 } as const;
  const leased = { ...saga, state: null as never, leasedUntil: 0, expiresAt: 0, startedAt: 0 };
  await db.transaction(call, async (tx) => {
    await lockPartition(tx, partition, 10);
    await lockOverdue(tx, partition, 10);
    await leaseLocked(tx, [sagaId], { holder: randomUUID(), leaseMs: 1_000 });
  });
  await db.transaction(call, async (sql) => {
    await reload(sql, leased);
    await renewLease(sql, leased, 1_000);
    await releaseLease(sql, leased, 0, partition);
    await endLease(sql, leased, 'STUCK');
  });
  // Events wait while their successors are blocked, until the rollback.
  const undo = new Error('undo');
  const waiting = db.transaction(call, async (tx) => {
    await tx.execute('update outbox set pending = 1, published_at = null order by position desc limit 1');
    await selectPending({ read: (_, work) => work(tx), write: (_, work) => work(tx) }, 10, ['none']);
    throw undo;
  });
  await waiting.catch((error: unknown) => {
    if (error !== undo) throw error;
  });
  await db.close();
  await doRareWorkOf(mesh, call);
  call.close();
}

/**
 * Calls one service's part. Signing in needs a browser; webhooks and foreign messages need a sender outside the mesh.
 */
async function doRareWorkOf(mesh: Shop['mesh'], call: ReturnType<typeof open>): Promise<void> {
  const within = async (name: string, work: (tx: Tx) => Promise<unknown>) => {
    const { url } = mesh[name]!.database!;
    const db = await openDatabase({ url, log: createLogger('test', 'silent'), registry: new Registry() });
    await db.transaction(call, work);
    await db.close();
  };
  await within('identity', async (tx) => {
    const artifacts = artifactStore(sealing('a secret of this test, long enough to be one'));
    await artifacts.find(tx, 'Session', 'a');
    await artifacts.findByUid(tx, 'Session', 'a');
    await artifacts.consume(tx, 'Session', 'a');
    await artifacts.destroy(tx, 'Session', 'a');
    await artifacts.revokeGrant(tx, 'a', null);
    await artifacts.revokeGrant(tx, 'a', 'Session');
    await artifacts.revokeClient(tx, 'a');
    await artifacts.grantsOf(tx, 'a');
    await artifacts.revokeSession(tx, Buffer.alloc(32));
    for (const after of [null, ['2026-01-01 00:00:00', 'a'] as [string, string]]) {
      await sessionStore().list(tx, 'a', { size: 50, after });
    }
    await emailStore({ undoTokenS: 60, mailTokenS: 60 }).revokeLinks(tx, 'a', 'reset_password');
    await accountStore().isFamiliar(tx, 'ada@example.org', '192.0.2.1');
  });
  await within('payments', async (tx) => {
    await paymentStore({ pendingResolveMs: 1_000 }).paymentOfCharge(tx, 'none');
    await resolutionsOf(tx, 'none');
  });
  await within('notifications', async (tx) => {
    await countForeign(tx, 'none', 10);
    const deadLetter = { id: newId(), consumer: 'none', type: 'none', aggregateId: 'none', sequence: 2 };
    await assertInOrder(tx, deadLetter, { aggregate: 'order', orderedTypes: ['none'] }, true);
  });
}
