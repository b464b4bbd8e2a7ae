/**
 * A program that works on sagas until a crash point kills it. Arguments: database URL, name of the saga, crash points.
 */

import { openDatabase } from '../db/database.ts';
import { armCrashPoints } from '../sync/crash-point.ts';
import { createLogger } from '../telemetry/log.ts';
import { Registry } from '../telemetry/metrics.ts';
import { checkout, hasty, open } from '../testing/saga.ts';
import { startSagaWorker } from './engine.ts';

const [url = '', name = '', points = ''] = process.argv.slice(2);
armCrashPoints(points);
const log = createLogger('test', 'silent');
const registry = new Registry();
const db = await openDatabase({ url, log, registry, poolMax: 4 });
const { leaseMs, timeoutMs } = hasty;
const definitions = [checkout(db, { name, timeoutMs })];
startSagaWorker({ db, definitions, log, registry, background: open, leaseMs, pollMs: 20 });
