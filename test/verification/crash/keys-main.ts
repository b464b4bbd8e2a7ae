// Sends keys again and again while everything is killed: KEYS, SENDS (of each), SENDERS (at once to each service), STORM (seconds of kills at most), SEED.
import { chosenSeed, columns, command, recoveries, verdict, wholeNumber } from './command.ts';
import { type KeysReport, keysUnderFire } from './keys.ts';

function summary(report: KeysReport): string {
  const { seed, keys, sends, answers, retries, acrossKills, seconds, sendsPerSecond, kills, recoveryMs } = report;
  return [
    `seed ${seed}: ${keys} keys, ${sends} sends each, in ${seconds} s (${sendsPerSecond} a second), ` +
      `${kills.total} processes killed; ${acrossKills} keys answered by more than one process`,
    `answers\n${columns(answers)}`,
    `no answer, sent again\n${columns(retries)}`,
    `killed at\n${columns(kills.byPoint)}`,
    `ready again after, median / longest\n${columns(recoveries(recoveryMs))}`,
    ...verdict(report),
  ].join('\n\n');
}

await command('keys.json', async (t, say) => {
  const report = await keysUnderFire(t, {
    keys: wholeNumber('KEYS', '10000', 1, 1_000_000),
    sends: wholeNumber('SENDS', '5', 1, 100),
    senders: wholeNumber('SENDERS', '48', 1, 1_000),
    seed: chosenSeed(),
    stormMs: 1_000 * wholeNumber('STORM', '150', 1, 86_400),
    calm: 4,
    say,
  });
  return { report, summary: summary(report) };
});
