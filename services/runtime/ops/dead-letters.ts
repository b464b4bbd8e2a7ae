import { createHash } from 'node:crypto';
import type { EventContract } from '@armature/proto/contract.ts';
import type { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import {
  type DeadLetter,
  DeadLetterState,
  type GetDeadLetterResponse,
  RedriveOutcome,
  type RedriveResult,
} from '@armature/proto/ops/v1/ops.ts';
import { type CallContext, principalOf } from '../context/call-context.ts';
import type { Database } from '../db/database.ts';
import { utcDate } from '../db/tx.ts';
import { RpcError } from '../errors/errors.ts';
import { runIdempotent } from '../idempotency/run-idempotent.ts';
import type { Redrive } from '../messaging/redrive.ts';
import { reasonOf } from '../messaging/retry.ts';
import { closePage, openPage } from '../rpc/paging.ts';
import type { Implementation } from '../rpc/server.ts';
import { chooseOnce, noteAction } from './actions.ts';
import {
  bodyOf,
  chooseDeadLetters,
  type DeadLetterRow,
  type DeadLetterRowState,
  deadLettersById,
  dropDeadLetterRow,
  findDeadLetter,
  listDeadLetterRows,
  stateOf,
} from './dead-letter-store.ts';
import { deadLetterDropped, deadLetterNotFound, deadLetterRedriven, filterMissing } from './errors.ts';

const pageSize = 50;
const redriveLimit = 100;
/** Reserved before the deadline for storing the response. */
const reserveMs = 2_000;

export interface DeadLetterParts {
  db: Database;
  redrive: Redrive['redrive'];
  checkRedrive: Redrive['checkRedrive'];
  /** The events that this service consumes. */
  events: readonly EventContract[];
}

type DeadLetterMethods = Pick<
  Implementation<typeof OpsServiceContract>,
  'listDeadLetters' | 'getDeadLetter' | 'redriveDeadLetters' | 'dropDeadLetter'
>;

/** Lists, redrives and drops dead letters. */
export function deadLetters(parts: DeadLetterParts): DeadLetterMethods {
  const { db } = parts;
  const types = parts.events.map(({ type }) => type);
  return {
    async listDeadLetters({ filter, state, ...page }, call) {
      const wanted = stateNames.get(state) ?? 'open';
      const query = [wanted, filter?.consumer, filter?.eventType, filter?.reason, String(filter?.olderThanSeconds)];
      const opened = openPage<[string]>(page, pageSize, query);
      const rows = await db.read(call, (sql) => listDeadLetterRows(sql, wanted, filter, opened));
      const { items, nextPageToken } = closePage(rows, opened, ({ id }): [string] => [id]);
      return { deadLetters: items.map(toMessage), nextPageToken };
    },

    async getDeadLetter({ deadLetterId }, call) {
      const { row, body } = await db.read(call, async (sql) => {
        const found = await findDeadLetter(sql, deadLetterId);
        if (!found) throw deadLetterNotFound(deadLetterId);
        return { row: found, body: await bodyOf(sql, deadLetterId) };
      });
      const bodySha256 = createHash('sha256').update(body).digest('hex');
      return { deadLetter: toMessage(row), bodySha256, ...(await shown(row, body, parts.events)) };
    },

    async redriveDeadLetters({ deadLetterIds, filter, dryRun, limit }, call) {
      const some =
        filter && (filter.all || filter.consumer || filter.eventType || filter.reason || filter.olderThanSeconds > 0n);
      if (deadLetterIds.length === 0 && !some) throw filterMissing();
      const choose = (sql: Parameters<typeof chooseDeadLetters>[0]) =>
        deadLetterIds.length > 0
          ? deadLettersById(sql, deadLetterIds).then((rows) => ({ ids: rows.map(({ id }) => id), more: false }))
          : chooseDeadLetters(sql, filter!, types, limit || redriveLimit);
      if (dryRun) {
        const { rows, more } = await db.read(call, async (sql) => {
          const chosen = await choose(sql);
          return { rows: await deadLettersById(sql, chosen.ids), more: chosen.more };
        });
        const results: RedriveResult[] = [];
        for (const row of rows) results.push(await wouldBe(parts, row, results));
        return runIdempotent(db, call, async () => ({ results, more }));
      }
      const { ids, more } = await db.transaction(call, (tx) => chooseOnce(tx, call, () => choose(tx)));
      const results = await redriveAll(parts, call, ids);
      return runIdempotent(db, call, async () => ({ results, more }));
    },

    async dropDeadLetter({ deadLetterId, why }, call) {
      return runIdempotent(db, call, async (tx) => {
        const dropped = await dropDeadLetterRow(tx, deadLetterId, principalOf(call.caller), why);
        const row = await findDeadLetter(tx, deadLetterId);
        if (!row) throw deadLetterNotFound(deadLetterId);
        if (!dropped) throw stateOf(row) === 'redriven' ? deadLetterRedriven(row.id) : deadLetterDropped(row.id);
        await noteAction(tx, call, why, { ids: [deadLetterId], more: false });
        return toMessage(row);
      });
    },
  };
}

/** One after another, oldest first: later events of an aggregate may depend on earlier ones. */
async function redriveAll(
  { db, redrive }: DeadLetterParts,
  call: CallContext,
  ids: readonly string[],
): Promise<RedriveResult[]> {
  const results: RedriveResult[] = [];
  for (const row of await db.read(call, (sql) => deadLettersById(sql, ids))) {
    const result = (outcome: RedriveResult['outcome'], reason = '') =>
      results.push({ deadLetterId: row.id, eventType: row.type, outcome, reason });
    if (stateOf(row) === 'dropped')
      result(RedriveOutcome.REDRIVE_OUTCOME_FAILED, 'DEAD_LETTER_DROPPED: it was dropped');
    else if (call.signal.aborted || Date.now() > call.deadline - reserveMs) {
      result(RedriveOutcome.REDRIVE_OUTCOME_NOT_TRIED);
    } else {
      try {
        const again = (await redrive(row.id)) === 'already';
        result(again ? RedriveOutcome.REDRIVE_OUTCOME_ALREADY : RedriveOutcome.REDRIVE_OUTCOME_REDRIVEN);
      } catch (error) {
        call.log.warn({ err: error, dead_letter: row.id, event: row.type }, 'a redriven event failed again');
        result(RedriveOutcome.REDRIVE_OUTCOME_FAILED, reasonOf(error));
      }
    }
  }
  return results;
}

/** Returns what a redrive of this dead letter would do, after those of `before`. */
async function wouldBe(
  { checkRedrive }: DeadLetterParts,
  row: DeadLetterRow,
  before: readonly RedriveResult[],
): Promise<RedriveResult> {
  const result = (outcome: RedriveResult['outcome'], reason = '') => {
    return { deadLetterId: row.id, eventType: row.type, outcome, reason };
  };
  const state = stateOf(row);
  if (state === 'redriven') return result(RedriveOutcome.REDRIVE_OUTCOME_ALREADY);
  if (state === 'dropped') return result(RedriveOutcome.REDRIVE_OUTCOME_FAILED, 'DEAD_LETTER_DROPPED');
  try {
    await checkRedrive(row.id);
  } catch (error) {
    const earlier = error instanceof RpcError ? error.metadata.dead_letter_id : undefined;
    const goesFirst = before.some(
      ({ deadLetterId, outcome }) =>
        deadLetterId === earlier && outcome === RedriveOutcome.REDRIVE_OUTCOME_WOULD_REDRIVE,
    );
    if (!goesFirst) return result(RedriveOutcome.REDRIVE_OUTCOME_FAILED, reasonOf(error));
  }
  return result(RedriveOutcome.REDRIVE_OUTCOME_WOULD_REDRIVE);
}

/**
 * Returns the body when it is certainly an event of its type. A forged or invalid one may contain anything, so it is
 * not shown.
 */
async function shown(
  row: DeadLetterRow,
  body: Buffer,
  events: readonly EventContract[],
): Promise<Pick<GetDeadLetterResponse, 'bodyJson' | 'undecodable'>> {
  const not = (undecodable: string) => ({ bodyJson: '', undecodable });
  if (row.aggregateId === null) return not('it is no event of the queue that it came by');
  const event = events.find(({ type }) => type === row.type);
  if (!event) return not(`this service does not consume ${row.type}`);
  try {
    if (event.aggregateId(event.message.decode(body)) !== row.aggregateId) {
      return not('the body is about something else than its envelope says');
    }
    // Loaded at the first request: the library that reads descriptors takes some 14 MB.
    const { redactedJson } = await import('./redaction.ts');
    return { bodyJson: JSON.stringify(redactedJson(row.type, body)), undecodable: '' };
  } catch {
    return not(`the body is not a ${row.type}`);
  }
}

const states: Record<DeadLetterRowState, DeadLetter['state']> = {
  open: DeadLetterState.DEAD_LETTER_STATE_OPEN,
  unknown: DeadLetterState.DEAD_LETTER_STATE_UNKNOWN_TYPE,
  redriven: DeadLetterState.DEAD_LETTER_STATE_REDRIVEN,
  dropped: DeadLetterState.DEAD_LETTER_STATE_DROPPED,
};
const stateNames = new Map(Object.entries(states).map(([name, state]) => [state, name as DeadLetterRowState]));

const date = (text: string | null) => (text === null ? undefined : utcDate(text));

function toMessage(row: DeadLetterRow): DeadLetter {
  return {
    deadLetterId: row.id,
    consumer: row.consumer,
    messageId: row.messageId,
    publisher: row.publisher,
    eventType: row.type,
    aggregateId: row.aggregateId ?? '',
    sequence: BigInt(row.sequence ?? 0),
    reason: row.reason,
    attempts: row.attempts,
    bodyBytes: BigInt(row.bodyBytes),
    deadTime: utcDate(row.deadAt),
    state: states[stateOf(row)],
    redriveTime: date(row.redrivenAt),
    dropTime: date(row.droppedAt),
    droppedBy: row.droppedBy ?? '',
    dropWhy: row.dropWhy ?? '',
  };
}
