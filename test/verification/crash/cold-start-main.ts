// Kills all processes at once and starts them in random order. Environment: ROUNDS, SEED; RECORD=1 records the saga
// histories.
import { writeTable } from '../../../scripts/cli/table.ts';
import { type ColdStartReport, coldStarts } from './cold-start.ts';
import { chosenSeed, columns, command, violated, wholeNumber } from './command.ts';

function summary({ seed, rounds, orders, violations }: ColdStartReport): string {
  const seconds = (ms: number | null) => (ms === null ? 'never' : `${(ms / 1_000).toFixed(1)} s`);
  const rows = rounds.map(({ underWay, order, readyMs, cleanMs, exits }, index) => [
    ...[String(index + 1), String(underWay), seconds(readyMs), seconds(cleanMs), String(exits.length), order],
  ]);
  const head = ['round', 'orders under way', 'ready', 'clean', 'exits', 'started in this order, pauses in ms'];
  return [
    `seed ${seed}: everything was killed at once ${rounds.length} times`,
    writeTable([head, ...rows], 'text').join('\n'),
    `orders by story and end\n${columns(orders)}`,
    violated(violations),
  ].join('\n\n');
}

await command('cold-start.json', async (t, say) => {
  const record = process.env.RECORD === '1';
  const report = await coldStarts(t, {
    rounds: wholeNumber('ROUNDS', '20', 1, 1_000),
    seed: chosenSeed(),
    record,
    say,
  });
  return { report, summary: summary(report) };
});
