import t from 'tap';
import { type Caller, openCall, silentLog } from '../context/call-context.ts';
import { childTrace } from '../context/trace.ts';
import { denials } from './denials.ts';

const callOf = (caller: Caller, name = '/a.B/C') =>
  openCall({
    kind: 'server',
    name,
    message: null,
    deadline: Date.now(),
    trace: childTrace(undefined),
    log: silentLog,
    caller,
  });
const user = (subject: string, kind: 'user' | 'client' = 'user'): Caller => ({
  workload: 'workload:edge',
  user: { kind, subject, token: '', scope: 'all' },
});

t.test('equal denials are one record', async (t) => {
  const pending = denials();
  const first = callOf(user('ada'));
  pending.denied(first, 'a.read', 'no', 'v1');
  pending.denied(callOf(user('ada')), 'a.read', 'no', 'v1');
  const [record, ...rest] = pending.take();
  t.strictSame(rest, []);
  t.match(record, {
    workload: 'workload:edge',
    subject: 'user:ada',
    permission: 'a.read',
    target: '/a.B/C',
    allowed: false,
    reason: 'no',
    policyVersion: 'v1',
    callId: first.id,
    count: 2,
  });
  t.strictSame(pending.take(), [], 'what was taken is gone');
});

t.test('what differs is kept apart', async (t) => {
  for (const row of [
    { name: 'user', call: callOf(user('bo')) },
    { name: 'kind of subject', call: callOf(user('ada', 'client')) },
    { name: 'workload', call: callOf({ ...user('ada'), workload: 'service:orders' }) },
    { name: 'no user', call: callOf({ workload: 'workload:edge', user: null }) },
    { name: 'method', call: callOf(user('ada'), '/a.B/D') },
    { name: 'permission', permission: 'a.write' },
    { name: 'reason', reason: 'not the owner' },
    { name: 'policy', version: 'v2' },
  ]) {
    t.test(row.name, async (t) => {
      const pending = denials();
      pending.denied(callOf(user('ada')), 'a.read', 'no', 'v1');
      const { call = callOf(user('ada')), permission = 'a.read', reason = 'no', version = 'v1' } = row;
      pending.denied(call, permission, reason, version);
      t.strictSame(
        pending.take().map(({ count }) => count),
        [1, 1],
      );
    });
  }
});

t.test('a flood of different denials fills nothing', async (t) => {
  const pending = denials(10);
  for (let index = 0; index < 10_000; index++) pending.denied(callOf(user(`u${index}`)), 'a.read', 'no', 'v1');
  t.equal(pending.size, 11);
  const taken = pending.take();
  t.match(taken.at(-1), { count: 9_990, subject: '', permission: '', allowed: false, reason: /^others/ });
  t.equal(new Set(taken.map(({ decisionId }) => decisionId)).size, 11);
  pending.restore(taken);
  pending.denied(callOf(user('one-more')), 'a.read', 'no', 'v1');
  t.equal(pending.size, 11, 'nor does taking back what could not be stored');
  const total = pending.take().reduce((sum, { count }) => sum + count, 0);
  t.equal(total, 10_001, 'and none goes uncounted');
});
