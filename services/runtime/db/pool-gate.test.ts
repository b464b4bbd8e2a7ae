import t from 'tap';
import { poolGate } from './pool-gate.ts';

t.test('admits as many as there are places, then in the order of arrival', async (t) => {
  const gate = poolGate({ size: 2, waitersMax: 10, waitTimeoutMs: 1_000 });
  const [first] = await Promise.all([gate.enter(), gate.enter()]);
  const order: string[] = [];
  const third = gate.enter().then((release) => {
    order.push('third');
    release();
  });
  const fourth = gate.enter().then((release) => {
    order.push('fourth');
    release();
  });
  t.equal(gate.waiting(), 2);
  first?.();
  await Promise.all([third, fourth]);
  t.strictSame(order, ['third', 'fourth']);
  t.equal(gate.inUse(), 1);
});

t.test('a place is given back once, however often it is said', async (t) => {
  const gate = poolGate({ size: 1, waitersMax: 1, waitTimeoutMs: 1_000 });
  const release = await gate.enter();
  release();
  release();
  t.equal(gate.inUse(), 0);
  await gate.enter();
  t.equal(gate.inUse(), 1);
});

t.test('refuses', async (t) => {
  t.test('when too many wait', async (t) => {
    const gate = poolGate({ size: 1, waitersMax: 1, waitTimeoutMs: 1_000 });
    const release = await gate.enter();
    const waits = gate.enter();
    await t.rejects(gate.enter(), { code: 'RESOURCE_EXHAUSTED' });
    release();
    await waits;
  });

  t.test('when the wait is too long', async (t) => {
    const gate = poolGate({ size: 1, waitersMax: 1, waitTimeoutMs: 20 });
    await gate.enter();
    await t.rejects(gate.enter(), { code: 'RESOURCE_EXHAUSTED' });
    t.equal(gate.waiting(), 0);
  });

  t.test('when the client cancels the call meanwhile', async (t) => {
    const gate = poolGate({ size: 1, waitersMax: 1, waitTimeoutMs: 1_000 });
    const release = await gate.enter();
    const caller = new AbortController();
    const waits = gate.enter(() => caller.signal);
    caller.abort(new Error('cancelled'));
    await t.rejects(waits, { message: 'cancelled' });
    release();
    t.equal(gate.inUse(), 0);
  });
});
