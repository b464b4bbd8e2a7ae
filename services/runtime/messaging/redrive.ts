import { openCall } from '../context/call-context.ts';
import { childTrace } from '../context/trace.ts';
import type { Database } from '../db/database.ts';
import { rpcError } from '../errors/errors.ts';
import { crashPoint } from '../sync/crash-point.ts';
import type { Logger } from '../telemetry/log.ts';
import {
  assertBodyKept,
  assertInOrder,
  assertOwnMessageId,
  claimDeadLetter,
  type DeadLetter,
  loadDeadLetter,
  type RedriveOrder,
} from './dead-letter.ts';
import { assertSameAggregate, decode } from './handling.ts';
import type { EventHandler } from './stream-work.ts';

export interface Redrive {
  /**
   * Runs the handler of a dead letter now. Any number of calls have one effect. Throws EVENT_SUPERSEDED and
   * EARLIER_DEAD_LETTER_OPEN where that would break the order of its aggregate.
   */
  redrive(id: string): Promise<'redriven' | 'already'>;
  /** Throws the errors of `redrive`, without an effect. */
  checkRedrive(id: string): Promise<void>;
}

export interface RedriveParts {
  service: string;
  db: Pick<Database, 'read'>;
  log: Logger;
  handlers: ReadonlyMap<string, EventHandler>;
  timeoutMs: number;
}

export function redriving(parts: RedriveParts): Redrive {
  return {
    redrive: (id) => redrive(parts, id),
    async checkRedrive(id) {
      const { deadLetter, order } = await load(parts, id);
      await parts.db.read(null, async (sql) => {
        await assertInOrder(sql, deadLetter, order, false);
        await assertOwnMessageId(sql, deadLetter);
      });
    },
  };
}

/**
 * Reads the dead letter and finds its handler. Throws when either is missing, or when the dead letter is not an event
 * of the handler.
 */
async function load({ service, db, handlers }: RedriveParts, id: string) {
  const deadLetter = await db.read(null, (sql) => loadDeadLetter(sql, id));
  if (!deadLetter) throw rpcError('NOT_FOUND', 'DEAD_LETTER_NOT_FOUND', `no dead letter ${id}`);
  const handler = handlers.get(deadLetter.type);
  if (!handler)
    throw rpcError('FAILED_PRECONDITION', 'EVENT_NOT_CONSUMED', `${service} does not consume ${deadLetter.type}`);
  if (deadLetter.aggregateId === null || deadLetter.publisher !== handler.event.source) {
    throw rpcError('FAILED_PRECONDITION', 'DEAD_LETTER_FOREIGN', `${id} is no event of ${handler.event.source}`);
  }
  assertBodyKept(deadLetter);
  return { deadLetter, handler, order: orderOf(handler, handlers) };
}

/** The events of the handler's aggregate whose order matters. */
function orderOf({ event }: EventHandler, handlers: ReadonlyMap<string, EventHandler>): RedriveOrder {
  const ordered = [...handlers.values()].filter(
    (other) =>
      !other.orderIndependent && other.event.source === event.source && other.event.aggregate === event.aggregate,
  );
  return { aggregate: event.aggregate, orderedTypes: ordered.map((other) => other.event.type) };
}

async function redrive(parts: RedriveParts, id: string): Promise<'redriven' | 'already'> {
  const { deadLetter, handler, order } = await load(parts, id);
  const call = callOf(parts, handler, deadLetter);
  try {
    call.message = decode(handler.event, deadLetter.body);
    assertSameAggregate(handler.event, call.message, deadLetter.aggregateId!);
    const step = await handler.run(call, async (tx) => {
      if (!(await claimDeadLetter(tx, deadLetter, order))) return 'duplicate';
      await handler.handle(call.message, call, tx);
      crashPoint('redrive.before-commit');
      return 'next';
    });
    if (step === 'next') crashPoint('redrive.committed');
    return step === 'next' ? 'redriven' : 'already';
  } finally {
    call.close();
  }
}

function callOf({ log, timeoutMs }: RedriveParts, { event }: EventHandler, deadLetter: DeadLetter) {
  const headers: Record<string, unknown> = JSON.parse(deadLetter.headers);
  return openCall<unknown>({
    kind: 'consumer',
    name: deadLetter.type,
    event,
    message: null,
    deadline: Date.now() + timeoutMs,
    trace: childTrace(typeof headers.traceparent === 'string' ? headers.traceparent : undefined),
    log,
    caller: { workload: `service:${deadLetter.publisher}`, user: null },
    header: (name) => (typeof headers[name] === 'string' ? headers[name] : undefined),
  });
}
