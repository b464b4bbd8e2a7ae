// Crash test of less than a minute at the most important crash points. `make mutants` runs it against each broken
// build.
import t from 'tap';
import { crash } from './run.ts';

t.setTimeout(280_000);

const points = [
  'place-order.committed',
  'saga.before-call',
  'saga.sent',
  'reserve-stock.committed',
  'payments.after-acquirer',
  'relay.published',
  'consumer.before-effect',
];
t.test('no invariant is violated while processes are killed', async (t) => {
  const report = await crash(t, { seconds: 45, seed: 1, points, customers: 12, say: (line) => t.comment(line) });
  t.strictSame(report.violations, [], 'no effect is lost or repeated');
  t.strictSame(report.unvisited, [], 'a process was killed at every crash point');
});
