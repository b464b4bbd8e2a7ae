// Idempotency test: sends keys many times while processes are killed. Environment: KEYS, SENDS (of each), SENDERS
// (concurrent requests to each service), STORM (maximum seconds of kills), SEED.
import { chosenSeed, columns, command, recoveries, verdict, wholeNumber } from './command.ts';
import { type KeysReport, repeatKeys } from './keys.ts';

function summary(report: KeysReport): string {
  const { seed, keys, sends, responses, retries, acrossKills, seconds, sendsPerSecond, kills, recoveryMs } = report;
  return [
    `seed ${seed}: ${keys} keys, ${sends} sends each, in ${seconds} s (${sendsPerSecond} a second), ` +
      `${kills.total} processes killed; ${acrossKills} keys handled by more than one process`,
    `responses\n${columns(responses)}`,
    `unknown outcome, sent again\n${columns(retries)}`,
    `killed at\n${columns(kills.byPoint)}`,
    `ready again after, median / longest\n${columns(recoveries(recoveryMs))}`,
    ...verdict(report),
  ].join('\n\n');
}

await command('keys.json', async (t, say) => {
  const report = await repeatKeys(t, {
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
