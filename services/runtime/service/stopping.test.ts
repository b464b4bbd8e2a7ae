import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import t from 'tap';
import { background } from '../context/background.ts';
import type { CallContext } from '../context/call-context.ts';
import { dependencyUnavailable } from '../errors/errors.ts';
import { createLogger } from '../telemetry/log.ts';
import { startPeriodicJobs } from './periodic-jobs.ts';
import { runStopSteps, type StopStep } from './stopping.ts';

const log = createLogger('test', 'silent');
const open = background('test', log);
const never = () => new Promise<never>(() => {});

/** Runs the steps and returns what was logged. */
async function linesOf(steps: readonly StopStep[]): Promise<{ msg: string; step: string }[]> {
  const lines: { msg: string; step: string }[] = [];
  await runStopSteps(steps, pino({}, { write: (line) => void lines.push(JSON.parse(line)) }));
  return lines;
}

t.test('a step that does not end is left behind at its time, and the next ones run', async (t) => {
  const ran: string[] = [];
  const since = performance.now();
  const lines = await linesOf([
    { name: 'calls', endsMs: 100, run: never },
    { name: 'messaging', endsMs: 50, run: never },
    { name: 'database', endsMs: 1_000, run: async () => ran.push('database') },
    { name: 'nothing', endsMs: 1_000, run: () => undefined },
  ]);
  t.ok(performance.now() - since < 900, 'it did not wait');
  t.strictSame(ran, ['database']);
  t.match(lines, [{ step: 'calls', msg: /left behind/ }, { step: 'messaging' }]);
  t.equal(lines.length, 2);
});

t.test('a neighbour that is away fails no stop; a fault does, after the last step', async (t) => {
  const ran: string[] = [];
  const last = { name: 'last', endsMs: 1_000, run: async () => ran.push('last') };
  const away = dependencyUnavailable('database', new Error('gone'));
  t.match(await linesOf([{ name: 'lease', endsMs: 1_000, run: () => Promise.reject(away) }, last]), [
    { step: 'lease' },
  ]);
  const fault = new TypeError('undefined is not a function');
  await t.rejects(linesOf([{ name: 'bug', endsMs: 1_000, run: () => Promise.reject(fault) }, last]), fault);
  t.strictSame(ran, ['last', 'last']);
});

t.test(
  'a stop cancels the runs of periodic jobs that still run after its grace, and calls that they have opened',
  async (t) => {
    const calls: CallContext[] = [];
    const ended: string[] = [];
    const untilCancelled = (name: string, call: CallContext) =>
      new Promise<never>((_, reject) => {
        calls.push(call);
        call.signal.addEventListener('abort', () => {
          ended.push(name);
          reject(call.signal.reason);
        });
      });
    const jobs = startPeriodicJobs(
      [
        { name: 'own call', everyMs: 10, run: (call) => untilCancelled('own call', call) },
        {
          name: 'child call',
          everyMs: 10,
          async run(parent) {
            const child = open('child', 15_000, { parent });
            return untilCancelled('child call', child).finally(() => child.close());
          },
        },
        { name: 'idle', everyMs: 60_000, run: async () => 0 },
      ],
      { open, log, stopGraceMs: 50 },
    );
    while (calls.length < 2) await sleep(5);
    await jobs.stop();
    t.strictSame(ended.toSorted(), ['child call', 'own call']);
  },
);
