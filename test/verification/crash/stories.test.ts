// Runs every story of the crash test a few times without kills, and checks that it ends as the crash test expects.
import t from 'tap';
import { shopDataOf, wrongAtRest } from '../../e2e/invariant-check.ts';
import { openShop } from '../../e2e/shop.ts';
import { seeded } from '../../support/random.ts';
import { amount } from '../../support/tier.ts';
import { shopServices } from '../faults/shoppers.ts';
import type { Story } from './responses.ts';
import { plots } from './stories.ts';
import { openWorkload } from './workload.ts';

t.setTimeout(280_000);
const timesEach = amount(1, 2);
const settings = {
  payments: { ARMATURE_ACQUIRER_TIMEOUT_MS: '400' },
  acquirer: { ARMATURE_ACQUIRER_SLOW_MS: '600', ARMATURE_ACQUIRER_WEBHOOK_LATE_MS: '1000' },
  inventory: { ARMATURE_RESERVATION_TTL_MS: '20000', ARMATURE_EXPIRY_SWEEP_MS: '250' },
};
const shop = await openShop(t, settings, shopServices);
const shopData = await shopDataOf(t, shop);
const mesh = {
  grpcOf: (name: string) => shop.service(name).grpc,
  acquirerUrl: `http://${shop.service('acquirer').http}`,
};

t.test('every story ends as the run expects', async (t) => {
  const workload = await openWorkload(t, shop, mesh, seeded(1));
  const over = new AbortController();
  const stories = Object.keys(plots) as Story[];
  for (let time = 0; time < timesEach; time += 1) {
    const told = await Promise.allSettled(stories.map((story) => workload.tell(story, over.signal)));
    for (const [index, { status, ...why }] of told.entries()) {
      if (status === 'rejected') t.fail(`${stories[index]}: ${String('reason' in why && why.reason)}`);
    }
  }
  over.abort();
  await workload.run(0, over.signal);
  t.strictSame(await wrongAtRest(shopData), [], 'every invariant holds');
  t.strictSame(
    await workload.responses.contradictions(shopData),
    [],
    'and nothing contradicts what customers were told',
  );
  const outcomes = await workload.responses.outcomes(shopData);
  t.comment(JSON.stringify(outcomes, null, 1));
  const told = new Set(Object.keys(outcomes).map((end) => end.split(':')[0]!));
  t.strictSame(
    stories.filter((story) => !told.has(story)),
    [],
    'each story ran',
  );
});
