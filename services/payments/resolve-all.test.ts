import type { CallContext } from '@armature/runtime';
import t from 'tap';
import type { LedgerDifference } from './comparison.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import { resolveAll } from './reconciliation.ts';

t.test('an unexpected error leaves its difference unresolved and the others alone', async (t) => {
  const difference = (operationId: string): LedgerDifference => ({
    ...{ kind: 'OUTCOME_MISSING', position: '1', externalId: 'op_1', operationId, paymentId: 'p' },
    ...{ ours: '', theirs: '' },
  });
  const [first, second] = [difference('a'), difference('b')];
  const logged: string[] = [];
  const call = {
    ...{ signal: new AbortController().signal, deadline: Date.now() + 60_000 },
    log: { error: ({ operationId }: { operationId: string }) => logged.push(operationId) },
  } as unknown as CallContext;
  const db = { read: () => Promise.reject(new Error('a row that nothing can be read from')) };
  const results = await resolveAll({ db } as unknown as OperationDependencies, call, [first, second]);
  const unresolved = { resolved: false, result: 'INTERNAL' };
  t.strictSame([...results.values()], [unresolved, unresolved]);
  t.strictSame(logged, ['a', 'b']);
});
