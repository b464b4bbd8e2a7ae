/**
 * Measures how one poisoned message in a hundred slows the others: time from commit to committed effect in another
 * service, in alternating rounds without and with poison, so that both run under the same conditions. Fails when a
 * healthy message becomes a dead letter or when their p99 more than doubles, by the median of the rounds. Run: node
 * services/runtime/messaging/poison.bench.ts
 */
import { RpcError } from '../errors/errors.ts';
import { eventually, openTestbed, ticked } from '../testing/messaging.ts';
import { consume } from './consumer.ts';

const rounds = 5;
const perSecond = 50;
const seconds = 4;
const poisonEvery = 100;

const undos: (() => unknown)[] = [];
const bed = await openTestbed({ teardown: (undo) => undos.push(undo) });
const committed = new Map<string, number>();
let latenciesMs: number[] = [];

/** Alternates between permanent errors, which make a dead letter at once, and errors at every attempt. */
function fail(number: number): never {
  if (number % 2 === 0) throw new RpcError('INVALID_ARGUMENT', 'POISON', 'never will do');
  throw new RpcError('UNAVAILABLE', 'POISON', 'not now, and never');
}

const consumer = await bed.consumer({
  consumers: [
    consume(ticked, async ({ id, number }, _call, tx) => {
      await tx.execute('insert into effect (id, number, written_us) values (?, ?, 0)', [id, number]);
      if (id.startsWith('poison')) fail(number);
      tx.afterCommit(() => latenciesMs.push(performance.now() - committed.get(id)!));
    }),
  ],
});
const producer = await bed.producer({ pollMs: 500 });

/** Returns the median and the 99th percentile of a hundred healthy messages of a round, ms. */
async function round(name: string, poisoned: boolean): Promise<{ p50: number; p99: number }> {
  latenciesMs = [];
  const emitted: Promise<void>[] = [];
  const start = performance.now();
  let healthy = 0;
  for (let index = 0; index < perSecond * seconds; index += 1) {
    const due = start + (index * 1000) / perSecond;
    if (due > performance.now()) await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    const bad = poisoned && index % poisonEvery === poisonEvery / 2;
    if (!bad) healthy += 1;
    const id = `${bad ? 'poison' : 'healthy'}-${name}-${index}`;
    // Counted from before the commit: the effect may exist before the commit returns.
    committed.set(id, performance.now());
    emitted.push(producer.emit(id, [Math.floor(index / poisonEvery)]));
  }
  await Promise.all(emitted);
  await eventually(async () => latenciesMs.length >= healthy, 'every healthy effect', 60_000);
  latenciesMs.sort((a, b) => a - b);
  const at = (share: number) => latenciesMs[Math.floor(latenciesMs.length * share)]!;
  return { p50: at(0.5), p99: at(0.99) };
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
const deadLetters = () =>
  consumer.db.read(null, (sql) => sql.query<{ id: string }>('select aggregate_id as id from dead_letter'));

// The first run is slower for reasons other than poison.
await round('warm', true);
const ratios: { p50: number; p99: number }[] = [];
for (let turn = 0; turn < rounds; turn += 1) {
  const clean = await round(`clean-${turn}`, false);
  const mixed = await round(`mixed-${turn}`, true);
  ratios.push({ p50: mixed.p50 / clean.p50, p99: mixed.p99 / clean.p99 });
  const show = ({ p50, p99 }: typeof clean) => `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`;
  console.log(`round ${turn + 1}: without ${show(clean)}; one poisoned in ${poisonEvery}: ${show(mixed)}`);
}
const poisoned = ((rounds + 1) * perSecond * seconds) / poisonEvery;
await eventually(async () => (await deadLetters()).length >= poisoned, 'every poisoned one is dead-lettered', 60_000);
const innocents = (await deadLetters()).filter(({ id }) => !id.startsWith('poison'));
const [p50, p99] = [median(ratios.map((one) => one.p50)), median(ratios.map((one) => one.p99))];
console.log(
  `healthy with poison against without, medians of ${rounds} rounds: p50 × ${p50.toFixed(2)}, p99 × ${p99.toFixed(2)}; ` +
    `${poisoned} dead-lettered, ${innocents.length} of them healthy`,
);
if (innocents.length > 0 || p99 > 2) process.exitCode = 1;
for (const undo of undos.reverse()) await undo();
