// Less than a minute under fire at the points that matter most: what `make mutants` holds a broken build to.
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
t.test('under fire', async (t) => {
  const report = await crash(t, { seconds: 45, seed: 1, points, customers: 12, say: (line) => t.comment(line) });
  t.strictSame(report.violations, [], 'nothing is lost, nothing twice');
  t.strictSame(report.unvisited, [], 'something died at every point');
});
