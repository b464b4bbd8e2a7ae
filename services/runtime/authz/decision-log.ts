import type { Decision } from '@armature/proto/access/v1/access.ts';
import { v5 as uuidv5 } from 'uuid';
import type { PeriodicJob } from '../context/background.ts';
import type { CallContext } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import { RpcError } from '../errors/errors.ts';
import { Counter, Gauge, type Registry } from '../telemetry/metrics.ts';
import { exponentialBackoffMs } from '../time/backoff.ts';
import {
  countDecisions,
  countRefused,
  deleteDecisions,
  dropDecisions,
  dropRefused,
  insertDecisions,
  type PendingDecision,
  pendingDecisions,
  refuseDecision,
} from './decisions.ts';
import type { Denials } from './denials.ts';

/** Sends decisions to access. Sending the same ones again changes nothing. */
export type SendDecisions = (call: CallContext, requestId: string, decisions: readonly Decision[]) => Promise<void>;

export interface DecisionLogOptions {
  /** "orders" */
  service: string;
  db: Database;
  denials: Denials;
  /** Null: there is no service to send to, and decisions stay here. */
  send: SendDecisions | null;
  registry: Registry;
}

export interface DecisionLog {
  readonly periodicJobs: readonly PeriodicJob[];
  /** Stores the decisions that are in memory; called when the service ends. */
  flush(call: CallContext): Promise<void>;
}

const batchMax = 500;
const everyMs = 1_000;
const keptDays = 7;
const keptRows = 100_000;
const countedMax = 100_000;
/** Calls in one round; a batch with many refused rows is continued in the next round. */
const callsMax = 60;
/** After failures rounds are skipped, so that an outage of access does not fill the log. */
const failureBackoff = { initialBackoffMs: everyMs, maxBackoffMs: 31 * everyMs };
/** Namespace of the request ids, which are derived from batches: the same batch is the same request. */
const batches = '5f1c2a52-7d0b-4b0e-9f57-0a3f4d0d9c11';

/**
 * Sends decisions to access. Decisions that allow are in the table already, written in the transaction of their effect.
 * Denials are stored from memory once a second. Decisions that cannot be sent wait. Of more than 100,000, those older
 * than 7 days are dropped and counted.
 */
export function decisionLog({ service, db, denials, send, registry }: DecisionLogOptions): DecisionLog {
  const dropped = new Counter({
    name: 'armature_decisions_dropped_total',
    help: 'Recorded decisions that were given up because access did not take them for days',
    registers: [registry],
  });
  new Gauge({
    name: 'armature_decisions_pending',
    help: `Recorded decisions that access has not taken yet, counted up to ${countedMax}`,
    registers: [registry],
    async collect() {
      this.set(denials.size + (await db.read(null, (sql) => countDecisions(sql, countedMax))));
    },
  });
  new Gauge({
    name: 'armature_decisions_refused',
    help: `Recorded decisions that access refuses; they are kept here for ${keptDays} days, counted up to ${countedMax}`,
    registers: [registry],
    async collect() {
      this.set(await db.read(null, (sql) => countRefused(sql, countedMax)));
    },
  });
  const flush = async (call: CallContext): Promise<void> => {
    const taken = denials.take();
    try {
      if (taken.length > 0) await db.transaction(call, (tx) => insertDecisions(tx, taken));
    } catch (error) {
      denials.restore(taken);
      throw error;
    }
  };
  const hand = async (call: CallContext, to: SendDecisions): Promise<number> => {
    const pending = await db.read(call, (sql) => pendingDecisions(sql, batchMax));
    if (pending.length === 0) return 0;
    const complete = await handBatch({ service, db, send: to }, call, pending);
    return complete && pending.length < batchMax ? 0 : pending.length;
  };
  const periodicJobs: PeriodicJob[] = [
    { name: 'denials', everyMs, run: (call) => flush(call).then(() => 0) },
    {
      name: 'old decisions',
      everyMs: 60_000,
      async run(call) {
        const refused = await db.write(call, (sql) => dropRefused(sql, keptDays));
        const gone = refused + (await db.write(call, (sql) => dropDecisions(sql, keptDays, keptRows)));
        if (gone > 0)
          call.log.error({ gone, refused }, 'recorded decisions dropped: access has not taken them for days');
        dropped.inc(gone);
        return gone;
      },
    },
  ];
  let failures = 0;
  let roundsToSkip = 0;
  const handOrSkip = async (call: CallContext, to: SendDecisions): Promise<number> => {
    if (roundsToSkip > 0) {
      roundsToSkip -= 1;
      return 0;
    }
    try {
      const handed = await hand(call, to);
      failures = 0;
      return handed;
    } catch (error) {
      failures += 1;
      roundsToSkip = exponentialBackoffMs(failures, failureBackoff) / everyMs - 1;
      throw error;
    }
  };
  if (send) periodicJobs.push({ name: 'decisions', everyMs, run: (call) => handOrSkip(call, send) });
  return { periodicJobs, flush };
}

/** Reasons of access for refusing one row for good. Other errors are not caused by a row. */
const rowFaults: ReadonlySet<string> = new Set(['INVALID_ARGUMENT', 'FAILED_PRECONDITION', 'OUT_OF_RANGE']);

/**
 * Sends a batch. A batch that access refuses is halved until the refused row is alone; that row is marked as refused
 * and the others are sent. Returns false when the calls of one round were used up before the end.
 */
async function handBatch(
  to: { service: string; db: Database; send: SendDecisions },
  call: CallContext,
  pending: readonly PendingDecision[],
): Promise<boolean> {
  const { service, db, send } = to;
  const batches = [pending];
  for (let calls = 0; calls < callsMax; calls += 1) {
    const batch = batches.shift();
    if (!batch) return true;
    try {
      const decisions = batch.map(({ decision }) => ({ ...decision, service: `service:${service}` }));
      await send(call, requestIdOf(batch), decisions);
      await db.write(call, (sql) => deleteDecisions(sql, positionsOf(batch)));
    } catch (error) {
      if (!(error instanceof RpcError) || !rowFaults.has(error.code)) throw error;
      const half = Math.ceil(batch.length / 2);
      if (batch.length > 1) batches.unshift(batch.slice(0, half), batch.slice(half));
      else await refuse(db, call, batch[0]!, error);
    }
  }
  return batches.length === 0;
}

async function refuse(db: Database, call: CallContext, { position, decision }: PendingDecision, error: RpcError) {
  const refusal = `${error.code} ${error.reason}: ${error.message}`;
  await db.write(call, (sql) => refuseDecision(sql, position, refusal));
  call.log.error({ decision: decision.decisionId, refusal }, 'access refuses a recorded decision; it is kept aside');
}

const positionsOf = (pending: readonly PendingDecision[]) => pending.map(({ position }) => position);
const requestIdOf = (pending: readonly PendingDecision[]): string =>
  uuidv5(pending.map(({ decision }) => decision.decisionId).join(), batches);
