/** A program that runs notes until a crash point kills it. Arguments: database URL, crash points. */

import { openDatabase } from '../db/database.ts';
import { armCrashPoints, crashPoint } from '../sync/crash-point.ts';
import { Registry } from '../telemetry/metrics.ts';
import { jobRunner } from './runner.ts';
import { log, noteQueue, open, writeEffect } from './testbed.ts';

const [url = '', points = ''] = process.argv.slice(2);
armCrashPoints(points);
const registry = new Registry();
const db = await openDatabase({ url, log, registry, poolMax: 4 });
const runner = jobRunner({ db, background: open, registry });
const [claiming] = runner.periodicJobs({
  ...{ queue: noteQueue(), name: 'notes', work: 'write note', concurrency: 4 },
  async run({ text }) {
    crashPoint('note.before-effect');
    await writeEffect(db, text);
    crashPoint('note.written');
  },
});
await claiming!.run(open('periodic job notes', 10_000));
await runner.close();
