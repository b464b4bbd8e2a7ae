/**
 * A process that tests kill: relays or consumes the tests' events until a crash point ends it. Its one argument is
 * JSON. It prints "ready" once it works.
 */

import { openDatabase } from '../db/database.ts';
import { armCrashPoints } from '../sync/crash-point.ts';
import { createLogger } from '../telemetry/log.ts';
import { Registry } from '../telemetry/metrics.ts';
import { contract, quick, ticked } from '../testing/messaging.ts';
import { openBroker } from './connection.ts';
import { consume, startConsumers } from './consumer.ts';
import { outbox } from './outbox.ts';
import { startRelay } from './relay.ts';

export interface CrashChild {
  role: 'relay' | 'consumer';
  databaseUrl: string;
  brokerUrl: string;
  /** In the format of armCrashPoints. */
  crash: string;
  leaseMs: number;
}

const options: CrashChild = JSON.parse(process.argv[2] ?? '{}');
const log = createLogger('child', 'silent');
const registry = new Registry();
armCrashPoints(options.crash);
const service = options.role === 'relay' ? 'orders' : 'notifications';
const db = await openDatabase({ url: options.databaseUrl, log, registry, participants: [outbox()] });
const broker = openBroker({ url: options.brokerUrl, service, log, registry });
if (options.role === 'relay') {
  startRelay({ db, broker, service, log, registry, pollMs: 50, batchMax: 10, leaseMs: options.leaseMs });
} else {
  const consumer = consume(ticked, async (message, _call, tx) => {
    await tx.execute('insert into effect (id, number, written_us) values (?, ?, 0)', [message.id, message.number]);
  });
  const running = startConsumers({
    service,
    consumers: [consumer],
    contracts: [contract(service, [ticked])],
    db,
    broker,
    log,
    registry,
    interceptors: [],
    authorize: () => (next) => next,
    limits: quick,
  });
  await running.started;
}
console.log('ready');
