// Resumes many stuck sagas by filter, on a real service: first a dry run, then a run that is killed in the middle and
// repeated.
import { randomUUID } from 'node:crypto';
import { opsClient } from '@armature/clients';
import { SagaState } from '@armature/proto/ops/v1/ops.ts';
import { ResumeOutcome } from '@armature/proto/ops/v1/resume_sagas.ts';
import t from 'tap';
import { withConnection } from '../../../scripts/devmesh/provision.ts';
import { refusal } from '../../../test/support/refusal.ts';
import { startService, token, workloadCertificate } from '../../../test/support/service.ts';
import { sagaDefinitions } from '../../orders/testbed.ts';
import { newId } from '../id/id.ts';
import { begin, type State } from '../saga/core.ts';

t.setTimeout(120_000);
const away = '127.0.0.1:1';
const peers = { catalog: away, inventory: away, payments: away };
let service = await startService(t, 'orders', {
  ...{ peers, env: { ARMATURE_CRASH_POINTS: 'resume-sagas.resumed:2' } },
});
const database = service.database!;
const tls = await workloadCertificate('developer');
const bearer = await token('olga');
const definitionOf = (name: string, version: number) =>
  sagaDefinitions().find((one) => one.name === name && one.version === version)!;

/** A saga that has been stuck at a step for so many seconds. */
async function insertStuck(name: string, version: number, step: string, reason: string, seconds = 0): Promise<string> {
  const definition = definitionOf(name, version);
  const [branch] = begin(definition).branches;
  const index = definition.steps.findIndex((one) => one.name === step);
  const stuck = { refused: false, reason };
  const state: State = { ...begin(definition), branches: [{ ...branch!, step: index, stuck }] };
  const sagaId = newId();
  await withConnection(database.adminUrl, (connection) =>
    connection.query(
      `insert into saga (saga_id, name, definition_version, subject_id, status, state, results, data, lease_token,
         deadline_at, created_at, updated_at)
       values (?, ?, ?, ?, 'STUCK', ?, '{}', '{}', 0, '9999-12-31', utc_timestamp(6),
         utc_timestamp(6) - interval ? second)`,
      [sagaId, name, version, newId(), JSON.stringify(state), seconds],
    ),
  );
  return sagaId;
}

const open = () => opsClient('orders', { addresses: [service.grpc], tls, token: () => bearer });

t.test('resuming by filter', async (t) => {
  const operator = open();
  const captures: string[] = [];
  for (const reason of ['UNAVAILABLE payments', 'UNAVAILABLE payments', 'UNAVAILABLE payments', 'HOLD_EXPIRED']) {
    captures.push(await insertStuck('checkout', 1, 'capture-payment', reason));
  }
  const refund = await insertStuck('cancellation', 1, 'refund-payment', 'UNAVAILABLE payments', 7_200);

  t.test('an empty filter is refused', async (t) => {
    await t.rejects(operator.resumeSagas({}), refusal({ code: 'INVALID_ARGUMENT', reason: 'FILTER_MISSING' }));
    await t.rejects(operator.resumeSagas({ filter: {} }), { message: /every stuck saga/ }, 'and says of sagas why');
    await t.rejects(
      operator.resumeSagas({ filter: {} }),
      refusal({ code: 'INVALID_ARGUMENT', reason: 'FILTER_MISSING' }),
    );
  });

  t.test('without `apply` it says which ones fit, and does nothing', async (t) => {
    const rows: [string, Parameters<typeof operator.resumeSagas>[0]['filter'], string[]][] = [
      ['all', { all: true }, [...captures, refund]],
      ['by name', { name: 'checkout' }, captures],
      ['by step', { step: 'refund-payment' }, [refund]],
      ['by a step that no saga has', { step: 'no-such-step' }, []],
      ['by reason', { reason: 'unavailable' }, [...captures.slice(0, 3), refund]],
      ['by age', { olderThanSeconds: 3_600n }, [refund]],
      ['by all of them', { name: 'checkout', step: 'capture-payment', reason: 'HOLD' }, captures.slice(3)],
    ];
    for (const [name, filter, expected] of rows) {
      const { results } = await operator.resumeSagas({ filter });
      t.strictSame(results.map(({ sagaId }) => sagaId).sort(), [...expected].sort(), name);
      t.ok(
        results.every(({ outcome }) => outcome === ResumeOutcome.RESUME_OUTCOME_WOULD_RESUME),
        name,
      );
    }
    const page = await operator.resumeSagas({ filter: { all: true }, limit: 2 });
    t.match([page.results.length, page.more], [2, true], 'pages are bounded');
    t.match(page.results[0], {
      name: 'checkout',
      version: 1,
      steps: 'capture-payment',
      stuckReason: 'UNAVAILABLE payments',
    });
    t.equal((await operator.listSagas({ state: SagaState.SAGA_STATE_STUCK })).sagas.length, 5);
  });

  t.test('sagas of a version that the process does not know take no place on a page', async (t) => {
    const foreign = await insertStuck('checkout', 1, 'capture-payment', 'of another deployment');
    // The oldest of all: its id comes first.
    await withConnection(database.adminUrl, (one) =>
      one.query(
        "update saga set definition_version = 99, saga_id = concat('00', substr(saga_id, 3)) where saga_id = ?",
        [foreign],
      ),
    );
    const { results } = await operator.resumeSagas({ filter: { all: true }, limit: 5 });
    t.strictSame(results.map(({ sagaId }) => sagaId).sort(), [...captures, refund].sort());
    const { sagas } = await operator.listSagas({ state: SagaState.SAGA_STATE_STUCK });
    t.match(
      sagas.find(({ version }) => version === 99),
      { known: false },
      'a list shows them',
    );
    await withConnection(database.adminUrl, (one) => one.query('delete from saga where definition_version = 99'));
  });

  t.test('killed in the middle, its repeat acts on the same sagas, each once', async (t) => {
    const request = { requestId: randomUUID(), filter: { reason: 'UNAVAILABLE' }, apply: true };
    const killed = new Promise((resolve) => service.process.once('exit', (_, signal) => resolve(signal)));
    await t.rejects(operator.resumeSagas(request));
    t.equal(await killed, 'SIGKILL');
    operator.close();
    const later = await insertStuck('checkout', 1, 'capture-payment', 'UNAVAILABLE payments');
    service = await startService(t, 'orders', { peers, database });
    const again = open();
    t.teardown(() => again.close());
    const [one, other] = await Promise.all([again.resumeSagas(request), again.resumeSagas(request)]);
    t.strictSame(one, other, 'the same response to the same request');
    t.strictSame(
      one.results.map(({ sagaId }) => sagaId),
      [...captures.slice(0, 3), refund],
      'and to no other saga',
    );
    const wellDone: number[] = [ResumeOutcome.RESUME_OUTCOME_RESUMED, ResumeOutcome.RESUME_OUTCOME_NOT_STUCK];
    t.ok(one.results.every(({ outcome }) => wellDone.includes(outcome)));
    for (const sagaId of [...captures.slice(0, 3), refund]) {
      const { saga, log } = await again.getSaga({ sagaId });
      t.equal(saga?.state, SagaState.SAGA_STATE_RUNNING);
      t.equal(log.filter(({ outcome }) => outcome === 'resume').length, 1, 'resumed once');
    }
    const { sagas } = await again.listSagas({ state: SagaState.SAGA_STATE_STUCK });
    t.strictSame(sagas.map(({ sagaId }) => sagaId).sort(), [captures[3], later].sort(), 'others stay as they are');
    await t.rejects(
      again.resumeSagas({ ...request, limit: 1 }),
      refusal({ code: 'INVALID_ARGUMENT', reason: 'REQUEST_ID_REUSED' }),
    );
    const actions = await withConnection(database.adminUrl, (connection) =>
      connection.query("select principal from operator_action where method like '%ResumeSagas'"),
    );
    t.match(actions[0], [{ principal: 'user:olga' }], 'what an operator did is kept');
  });
});
