// Short version of `make crash`, and tests of its tools for false results.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { repository } from '../../../scripts/devmesh/state.ts';
import { seeded } from '../../support/random.ts';
import { amount } from '../../support/tier.ts';
import { allPoints, pointsElsewhere } from './points.ts';
import { crash } from './run.ts';

t.setTimeout(240_000);

t.test('every crash point of the services is used by the crash test', async (t) => {
  const files = globSync('services/**/*.ts', { cwd: repository, exclude: (name) => name === 'node_modules' });
  const named = files
    // Programs of tests pass points of their own.
    .filter((file) => !/(\.test|-child)\.ts$/.test(file))
    .flatMap((file) => [
      ...readFileSync(join(repository, file), 'utf8').matchAll(
        /crashPoint\('([^']+)'\)|setImmediate\(crashPoint, '([^']+)'/g,
      ),
    ])
    .map((match) => match[1] ?? match[2]!);
  t.ok(named.length >= 14);
  t.strictSame(
    named.filter((point) => !allPoints.includes(point) && !pointsElsewhere.includes(point)),
    [],
  );
  // The others are around commits, and are named after the transaction.
  const commits = allPoints.filter((point) => !named.includes(point));
  t.ok(commits.every((point) => /\.(before-commit|committed)$/.test(point)));
});

t.test('equal seeds make equal choices', async (t) => {
  const draw = (seed: number) => {
    const random = seeded(seed);
    return Array.from({ length: 50 }, () => random.weighted({ one: 1, two: 2, never: 0 }));
  };
  t.strictSame(draw(7), draw(7));
  t.notSame(draw(7), draw(8));
  t.notOk(draw(7).includes('never'));
});

const seconds = amount(8, 20);

t.test(`no invariant is violated in ${seconds} s of kills`, async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  t.comment(`seed ${seed}; repeat it with make crash DURATION=${seconds} SEED=${seed}`);
  const report = await crash(t, { seconds, seed, customers: amount(4, 6), say: (line) => t.comment(line) });
  t.strictSame(report.violations, []);
  t.type(report.cleanAfterMs, 'number');
  const accepted = Object.values(report.orders).reduce((sum, count) => sum + count, 0);
  t.ok(accepted > 0, `${accepted} orders were accepted`);
  t.ok(report.kills.total >= seconds / 2, `${report.kills.total} processes were killed`);
  t.ok(report.kills.byProcess.database && report.kills.byProcess.broker, 'the database and the broker were killed');
});
