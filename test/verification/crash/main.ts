// Crash test: kills processes at crash points under load, restarts them, then checks every invariant. Environment:
// DURATION (seconds), SEED, POINTS (names separated by commas), RECORD=1 to record the saga histories.
import { chosenSeed, columns, command, recoveries, verdict, wholeNumber } from './command.ts';
import { type CrashReport, crash } from './run.ts';

const { POINTS = '', RECORD = '' } = process.env;

function summary({
  seed,
  seconds,
  orders,
  kills,
  recoveryMs,
  unvisited,
  cleanAfterMs,
  violations,
}: CrashReport): string {
  const accepted = Object.values(orders).reduce((sum, count) => sum + count, 0);
  return [
    `seed ${seed}, ${seconds} s: ${accepted} orders accepted, ${kills.total} processes killed`,
    `orders by story and end\n${columns(orders)}`,
    `killed at\n${columns(kills.byPoint)}`,
    `ready again after, median / longest\n${columns(recoveries(recoveryMs))}`,
    ...(unvisited.length > 0 ? [`no process was killed at ${unvisited.join(', ')}`] : []),
    ...verdict({ cleanAfterMs, violations }),
  ].join('\n\n');
}

await command('crash.json', async (t, say) => {
  const seconds = wholeNumber('DURATION', '60', 5, 86_400);
  const points = POINTS.split(',').filter((name) => name !== '');
  const record = RECORD === '1';
  const report = await crash(t, { seconds, seed: chosenSeed(), record, say, ...(points.length > 0 ? { points } : {}) });
  return { report, summary: summary(report) };
});
