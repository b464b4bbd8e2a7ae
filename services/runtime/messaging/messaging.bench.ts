/**
 * Measures the time from a commit to the committed effect in another service, and the throughput of events, both sides
 * and this benchmark in one process. Run: node services/runtime/messaging/messaging.bench.ts
 */

import { eventually, ignored, openTestbed, ticked } from '../testing/messaging.ts';
import { consume } from './consumer.ts';

const undos: (() => unknown)[] = [];
const bed = await openTestbed({ teardown: (undo) => undos.push(undo) });
const committed = new Map<string, number>();
const latenciesMs: number[] = [];
let handled = 0;

const consumer = await bed.consumer({
  consumers: [
    consume(ticked, async (message, _call, tx) => {
      await tx.execute('insert into effect (id, number, written_us) values (?, ?, 0)', [message.id, message.number]);
      tx.afterCommit(() => {
        handled += 1;
        const since = committed.get(`${message.id}/${message.number}`);
        if (since !== undefined) latenciesMs.push(performance.now() - since);
      });
    }),
  ],
});
const producer = await bed.producer({ pollMs: 500 });

const at = (share: number): string => latenciesMs[Math.floor(latenciesMs.length * share)]?.toFixed(1) ?? '-';

/** Single events at a steady rate, each for its own aggregate. */
async function latency(perSecond: number, seconds: number): Promise<void> {
  latenciesMs.length = 0;
  const emitted: Promise<void>[] = [];
  const start = performance.now();
  for (let index = 0; index < perSecond * seconds; index += 1) {
    const due = start + (index * 1000) / perSecond;
    if (due > performance.now()) await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    const id = `l-${perSecond}-${index}`;
    emitted.push(producer.emit(id, [1]).then(() => void committed.set(`${id}/1`, performance.now())));
  }
  await Promise.all(emitted);
  await eventually(async () => latenciesMs.length >= perSecond * seconds * 0.99, 'every effect');
  latenciesMs.sort((a, b) => a - b);
  console.log(`${perSecond}/s: commit → effect p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, p99 ${at(0.99)} ms`);
}

/** Events that are in the outbox when the relay starts. `share` of them have a type that is handled. */
async function throughput(
  name: string,
  aggregates: number,
  numbers: readonly number[],
  skipped: number,
): Promise<void> {
  await producer.relay.stop();
  handled = 0;
  const skip = Array.from({ length: skipped }, () => 0);
  for (let index = 0; index < aggregates; index += 1) {
    await producer.emit(`${name.replaceAll(' ', '-')}-${index}`, numbers);
    if (skipped > 0) await producer.emit(`${name.replaceAll(' ', '-')}-${index}`, skip, ignored);
  }
  const due = aggregates * numbers.length;
  const since = performance.now();
  producer.relay = producer.startRelay();
  await eventually(async () => handled >= due && (await applied()), name, 120_000);
  const seconds = (performance.now() - since) / 1000;
  const all = due + aggregates * skipped;
  console.log(`${name}: ${all} events (${due} handled) in ${seconds.toFixed(2)} s, ${Math.round(all / seconds)}/s`);
}

async function applied(): Promise<boolean> {
  const count = async (db: typeof producer.db, table: string): Promise<number> => {
    const rows = await db.read(null, (sql) => sql.query<{ many: number }>(`select count(*) as many from ${table}`));
    return Number(rows[0]?.many);
  };
  return (await count(producer.db, 'outbox')) === (await count(consumer.db, 'inbox'));
}

await latency(20, 3);
await latency(100, 5);
await latency(300, 5);
await throughput('all handled', 1_000, [1, 2, 3], 0);
await throughput('one of six handled', 1_000, [1], 5);
for (const undo of undos.reverse()) await undo();
