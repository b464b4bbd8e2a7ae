// Replays recorded sagas with the present definitions. A saga that runs while a new version is deployed must continue
// from the state that the old version left. docs/reliability.md says how to change a definition.
import { existsSync, readFileSync } from 'node:fs';
import {
  type CoreDefinition,
  type CoreStep,
  describeDivergence,
  divergences,
  type History,
} from '@armature/runtime/saga';
import t from 'tap';
import { sagaDefinitions } from '../../../services/orders/testbed.ts';
import { readRecordings } from './recordings.ts';

const fileOf = ({ name, version }: CoreDefinition) =>
  new URL(`recordings/${name}-${version}.recordings.json`, import.meta.url);
const recordingsOf = (today: CoreDefinition): History[] => readRecordings(readFileSync(fileOf(today), 'utf8'));
const said = (today: CoreDefinition) => divergences([today], recordingsOf(today)).map(describeDivergence);
// The first `make crash RECORD=1` that runs a version records it.
const definitions = sagaDefinitions().filter((definition) => existsSync(fileOf(definition)));

t.test('versions that were released are recorded', async (t) => {
  const names = definitions.map(({ name, version }) => `${name} ${version}`);
  for (const released of ['checkout 1', 'cancellation 1']) t.ok(names.includes(released), released);
});

for (const definition of definitions) {
  const { steps } = definition;
  const name = `${definition.name} ${definition.version}`;
  const recordings = recordingsOf(definition);

  t.test(`${recordings.length} recorded sagas replay to the same states: ${name}`, async (t) => {
    t.strictSame(said(definition), [], `sagas under way would be lost; see "When a saga has to change"`);
    t.equal(new Set(recordings.map((one) => one.name)).size, recordings.length, 'each has a unique name');
  });

  t.test(`the recordings of ${name} contain every step`, async (t) => {
    const known = new Set(recordings.flatMap(({ entries }) => entries.map(({ step, kind }) => `${kind} ${step}`)));
    for (const step of steps) {
      t.ok(known.has(`run ${step.name}`), `run ${step.name}`);
      if (step.queryable) t.ok(known.has(`query ${step.name}`), `query ${step.name}`);
      if (step.compensable) t.ok(known.has(`compensate ${step.name}`), `compensate ${step.name}`);
    }
  });

  t.test(`a changed definition of ${name} is detected`, async (t) => {
    const changed = (index: number, more: Partial<CoreStep>): CoreDefinition => ({
      ...definition,
      steps: steps.map((step, at) => (at === index ? { ...step, ...more } : step)),
    });
    for (const [index, { name: step, queryable, compensable }] of steps.entries()) {
      const renamed = said(changed(index, { name: 'other' }))[0] ?? '';
      t.match(
        renamed,
        new RegExp(`^${definition.name} .* diverges at entry \\d+: expected .*${step}.*; got .*other`),
        renamed,
      );
      const next = steps[index + 1];
      if (next) {
        const swapped = { ...definition, steps: steps.toSpliced(index, 2, next, steps[index]!) };
        t.match(said(swapped)[0], new RegExp(`expected .*${step}.*; got .*${next.name}`), `${step} after ${next.name}`);
      }
      t.match(said({ ...definition, steps: steps.toSpliced(index, 1) })[0], step, `without ${step}`);
      if (queryable) t.match(said(changed(index, { queryable: false }))[0], step, `${step} is not queried`);
      if (compensable) t.match(said(changed(index, { compensable: false }))[0], step, `${step} is not compensated`);
    }
    const added = { ...definition, steps: [...steps, { ...steps.at(-1)!, name: 'another' }] };
    t.match(said(added)[0], /got run another/, 'a step more');
  });

  t.test(`the recordings of ${name} contain no error details`, async (t) => {
    const inputs = recordings.flatMap(({ entries }) => entries.map(({ input }) => input));
    t.ok(inputs.every((input) => !('detail' in input) || input.detail === ''));
    t.ok(inputs.every((input) => !('reason' in input) || /^[A-Z_]*$/.test(input.reason)));
    t.notMatch(JSON.stringify(recordings), /@|[0-9a-f]{8}-[0-9a-f]{4}/, 'no address, no id');
  });
}
