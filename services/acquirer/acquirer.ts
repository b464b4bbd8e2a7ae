import { hash, randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type Book, openBook } from './book.ts';
import { type AuthorizationRule, type Card, cards } from './cards.ts';
import { type Charge, type ChargeStatus, capture, type Decision, expire, refund, voidAuthorization } from './charge.ts';
import type { Config } from './config.ts';
import * as errors from './errors.ts';
import { type Expiries, openExpiries } from './expiries.ts';
import { describe, type Logger } from './logger.ts';
import { answerBody, cancelled, decided, type OperationRecord } from './record.ts';
import { createTurns, type Turns } from './turns.ts';
import { noWebhooks, openWebhooks, type Webhooks } from './webhooks.ts';

/**
 * The card processor. Every answer comes from durable records, and memory changes only after the record is on
 * disk. Requests with one idempotency key take turns, and so do operations on one charge: always the key first,
 * then the charge, so that they cannot wait for each other in a circle.
 */
export type Acquirer = {
  book: Book;
  inTurn: Turns;
  webhooks: Webhooks;
  slowMs: number;
  holdMs: number;
  logger: Logger;
  /** Pending charges, by id, and the timers that will decide them. */
  settlements: Map<string, NodeJS.Timeout>;
  /** Ends holds when their time has come. */
  expiries: Expiries;
};

/** Silence is an answer too: the caller is left waiting on an open connection. */
export type Reply =
  | { kind: 'answer'; http_status: number; body: object; replayed: boolean }
  | { kind: 'silence'; reason: string };

export type AuthorizationRequest = {
  order_reference: string;
  amount_minor: number;
  currency_code: string;
  payment_method: string;
  customer_reference?: string;
};

export type ChargeOperationKind = 'capture' | 'void' | 'refund';

/** What is to be done to a charge; a void has no amount. */
export type ChargeRequest = { amount_minor?: number; currency_code?: string };

/** Rebuilds the state from the data directory, which this process holds alone until closeAcquirer. */
export async function openAcquirer(
  config: Pick<Config, 'dataDirectory' | 'slowMs' | 'holdMs' | 'keyRetentionMs' | 'webhooks'>,
  logger: Logger,
): Promise<Acquirer> {
  const { dataDirectory, slowMs, holdMs } = config;
  const book = await openBook(dataDirectory, config.keyRetentionMs);
  const webhooks = config.webhooks ? await openWebhooks(config.webhooks, { book, dataDirectory, logger }) : noWebhooks;
  const expiries = openExpiries(logger, async (charge_id) => {
    await acquirer.inTurn(`charge ${charge_id}`, () => expireIfDue(acquirer, charge_id));
  });
  const shared = { book, webhooks, inTurn: createTurns(), logger, expiries };
  const acquirer: Acquirer = { ...shared, slowMs, holdMs, settlements: new Map() };
  for (const { charge } of book.charges()) if (charge.status === 'pending') settleLater(acquirer, charge);
  expiries.resume([...book.charges()].map(({ charge }) => charge));
  logger.info('the log is open', { operations: book.last(), cut_bytes: book.cutBytes });
  return acquirer;
}

export async function closeAcquirer({ book, settlements, webhooks, expiries }: Acquirer): Promise<void> {
  for (const timer of settlements.values()) clearTimeout(timer);
  await expiries.close();
  await webhooks.close();
  await book.close();
}

export async function authorize(acquirer: Acquirer, key: string, request: AuthorizationRequest): Promise<Reply> {
  const { book, inTurn, slowMs } = acquirer;
  const { order_reference, amount_minor, currency_code, payment_method } = request;
  const request_hash = hashRequest('authorization', order_reference, amount_minor, currency_code, payment_method);
  // Outside the turn: a cancellation must be able to overtake an authorization that is still under way.
  if (isLate(book, request) && book.key(key) === undefined) await delay(slowMs);
  let settlement: Promise<number> | undefined;
  const reply = await inTurn<Reply>(`key ${key}`, async () => {
    const earlier = await book.recorded(key, request_hash);
    if (earlier !== undefined) return answer(earlier, true);
    // Only for a new key: what a recorded one did does not depend on the token of today.
    const card = cardOf(book, request);
    if (failsFirst.has(card.authorization) && (await book.commitAttempt(key, request_hash))) {
      if (card.authorization === 'fail_before_acting') throw errors.cardError();
      return silence('the card is silent before it acts');
    }
    const status = initialStatus(card.authorization, card.decline_code);
    const created_at = now();
    const charge: Charge = {
      charge_id: newId('ch'),
      order_reference,
      status,
      decline_code: card.decline_code,
      currency_code,
      amount_minor,
      captured_minor: 0,
      refunded_minor: 0,
      created_at,
      expires_at: new Date(Date.parse(created_at) + (card.shortHold ? slowMs : acquirer.holdMs)).toISOString(),
    };
    const facts = { operation_id: newId('op'), idempotency_key: key, amount_minor, created_at };
    const operation = decided('authorization', charge, { charge }, facts);
    const http_status = status === 'pending' ? 202 : 201;
    const rules = { capture_rule: card.capture, return_rule: card.returns, webhook_rule: card.webhook };
    const record = { request_hash, http_status, ...rules, operation };
    await commit(acquirer, record);
    if (status !== 'declined') acquirer.expiries.add(charge, card.shortHold ? 'short' : 'long');
    if (card.webhook === 'before_answer') settlement = settle(acquirer, charge.charge_id);
    else if (status === 'pending') settleLater(acquirer, charge);
    if (card.authorization === 'silent_after_acting') return silence('the card is silent after it acted');
    return answer(record, false);
  });
  // Outside the turn, because whoever is told by the webhook asks about this key.
  if (settlement !== undefined) await acquirer.webhooks.attempted(await settlement, slowMs);
  return reply;
}

const isLate = (book: Book, { payment_method }: AuthorizationRequest): boolean =>
  cards.get(book.method(payment_method)?.card ?? payment_method)?.authorization === 'late';

/** The test card that a token stands for. A token that was issued to a customer is refused for any other. */
function cardOf(book: Book, { payment_method, customer_reference }: AuthorizationRequest): Card {
  const issued = book.method(payment_method);
  if (issued && issued.customer_reference !== customer_reference) throw errors.paymentMethodNotOwned();
  const card = cards.get(issued?.card ?? payment_method);
  if (card === undefined) throw errors.paymentMethodUnknown();
  return card;
}

/** Issues a token for a test card to a customer. Each call issues another one. */
export async function issueMethod({ book }: Acquirer, customer_reference: string, card: string): Promise<Reply> {
  if (!cards.has(card)) throw errors.cardUnknown();
  const method = { payment_method: newId('pm'), customer_reference, card };
  await book.commitMethod(method);
  return { kind: 'answer', http_status: 201, body: method, replayed: false };
}

/** Writes a record down and tells those who follow the log. */
async function commit({ book, webhooks }: Acquirer, record: OperationRecord): Promise<number> {
  const position = await book.commit(record);
  webhooks.wake();
  return position;
}

/** Captures, voids or refunds. A refusal is recorded and repeated under its key; an unknown charge is not. */
export async function operate(
  acquirer: Acquirer,
  kind: ChargeOperationKind,
  charge_id: string,
  key: string,
  request: ChargeRequest,
): Promise<Reply> {
  const { book, inTurn } = acquirer;
  const { amount_minor = null, currency_code = null } = request;
  const request_hash = hashRequest(kind, charge_id, amount_minor, currency_code);
  return inTurn(`key ${key}`, async () => {
    const earlier = await book.recorded(key, request_hash);
    if (earlier !== undefined) return answer(earlier, true);
    return inTurn(`charge ${charge_id}`, async () => {
      // A hold whose time has come is over, also when its timer is late.
      await expireIfDue(acquirer, charge_id);
      const known = book.charge(charge_id);
      if (known === undefined) throw errors.chargeUnknown();
      const { charge, capture_rule, return_rule } = known;
      if (currency_code !== null && currency_code !== charge.currency_code) {
        throw errors.fieldInvalid('currency_code', `must be the currency of the charge, ${charge.currency_code}`);
      }
      const amount = amount_minor ?? charge.amount_minor;
      const decision: Decision = {
        capture: () => capture(charge, amount, capture_rule),
        void: () => voidAuthorization(charge, return_rule),
        refund: () => refund(charge, amount, return_rule),
      }[kind]();
      const facts = { operation_id: newId('op'), idempotency_key: key, amount_minor: amount, created_at: now() };
      const operation = decided(kind, charge, decision, facts);
      const record = { request_hash, http_status: decision.refusal?.http_status ?? 201, capture_rule, operation };
      await commit(acquirer, record);
      const silent = kind === 'capture' && capture_rule === 'silent_after_acting' && decision.refusal === undefined;
      return silent ? silence('the card is silent after its capture') : answer(record, false);
    });
  });
}

/** Forbids a key that has not acted ever to act. A key that has acted answers with its operation instead. */
export async function cancel({ book, inTurn }: Acquirer, key: string): Promise<Reply> {
  return inTurn(`key ${key}`, async () => {
    const known = book.key(key);
    if (known?.cancelled) return answer(await book.read(known.position), true);
    if (known) {
      return { kind: 'answer', http_status: 200, body: await currentOperation(book, known.position), replayed: false };
    }
    const operation = cancelled({ operation_id: newId('op'), idempotency_key: key, created_at: now() });
    const record: OperationRecord = { request_hash: null, http_status: 201, capture_rule: 'answer', operation };
    await book.commit(record);
    return answer(record, false);
  });
}

/** The operation under a key. Waits for one that is being written, so that "unknown" means not recorded. */
export async function findOperation({ book, inTurn }: Acquirer, key: string): Promise<object> {
  return inTurn(`key ${key}`, async () => {
    const known = book.key(key);
    if (known !== undefined) return currentOperation(book, known.position);
    // After a failed write nobody can say what a restart will find in the file.
    throw book.failure() ? errors.logUnavailable() : errors.operationUnknown();
  });
}

export function findCharge({ book }: Acquirer, charge_id: string): Charge {
  const known = book.charge(charge_id);
  if (known === undefined) throw errors.chargeUnknown();
  return known.charge;
}

/** One page of the operations of a charge, in order. */
export async function listOfCharge(
  { book }: Acquirer,
  charge_id: string,
  { after, limit }: { after: number; limit: number },
): Promise<object> {
  const known = book.charge(charge_id);
  if (known === undefined) throw errors.chargeUnknown();
  const later = known.positions.filter((position) => position > after);
  const operations = await readAll(book, later.slice(0, limit));
  return { operations, next_after: later[limit - 1] ?? after, has_more: later.length > limit };
}

/** Those of the operations that exist, in the order of the log. */
export async function listByIds({ book }: Acquirer, ids: readonly string[]): Promise<object> {
  const positions = ids.map((id) => book.position(id)).filter((position) => position !== undefined);
  return {
    operations: await readAll(
      book,
      [...new Set(positions)].sort((a, b) => a - b),
    ),
  };
}

const readAll = (book: Book, positions: readonly number[]) =>
  Promise.all(
    positions.map(async (position) => {
      const { operation } = await book.read(position);
      return { position, ...operation };
    }),
  );

/** One page of the log in order, as it was written; `next_after` continues it. */
export async function listOperations({ book }: Acquirer, after: number, limit: number): Promise<object> {
  const page = await book.page(after, limit);
  const next_after = page.at(-1)?.position ?? after;
  const operations = page.map(({ position, operation }) => ({ position, ...operation }));
  return { operations, next_after, has_more: next_after < book.last() };
}

/** An operation as it stands now: with the charge of today, and settled where it has been settled since. */
async function currentOperation(book: Book, position: number): Promise<object> {
  const { operation } = await book.read(position);
  const charge = operation.charge_id === null ? null : book.charge(operation.charge_id)!.charge;
  const status = operation.status === 'pending' && charge?.status !== 'pending' ? 'authorized' : operation.status;
  return { position, ...operation, status, charge };
}

/** Ends a hold now, whatever its time; for tests of what follows from that. */
export async function expireNow(acquirer: Acquirer, charge_id: string): Promise<Reply> {
  const { book, inTurn } = acquirer;
  return inTurn(`charge ${charge_id}`, async () => {
    const known = book.charge(charge_id);
    if (known === undefined) throw errors.chargeUnknown();
    const { refusal } = expire(known.charge);
    if (refusal) throw new errors.Problem(refusal.http_status, refusal.code, refusal.message);
    const position = await commitExpiration(acquirer, charge_id);
    const { operation } = await book.read(position);
    return { kind: 'answer', http_status: 201, body: operation, replayed: false };
  });
}

/** In the turn of the charge. */
async function expireIfDue(acquirer: Acquirer, charge_id: string): Promise<void> {
  const charge = acquirer.book.charge(charge_id)?.charge;
  if (charge?.status !== 'authorized' || charge.expires_at === undefined) return;
  if (Date.parse(charge.expires_at) <= Date.now()) await commitExpiration(acquirer, charge_id);
}

async function commitExpiration(acquirer: Acquirer, charge_id: string): Promise<number> {
  const { charge, capture_rule, authorization_key } = acquirer.book.charge(charge_id)!;
  const { amount_minor } = charge;
  const own = { operation_id: newId('op'), idempotency_key: null, authorization_key, amount_minor, created_at: now() };
  const operation = decided('expiration', charge, expire(charge), own);
  return commit(acquirer, { request_hash: null, http_status: 200, capture_rule, operation });
}

function settleLater(acquirer: Acquirer, { charge_id }: Charge): void {
  const { inTurn, settlements, slowMs, logger } = acquirer;
  const timer = setTimeout(() => {
    settlements.delete(charge_id);
    inTurn(`charge ${charge_id}`, () => settle(acquirer, charge_id)).catch((error) => {
      const message = 'a pending charge could not be settled; a restart tries again';
      logger.error(message, { charge_id, error: describe(error) });
    });
  }, slowMs);
  settlements.set(charge_id, timer);
}

/** Decides a pending charge; answers the position of the record, or of nothing when it was decided before. */
async function settle(acquirer: Acquirer, charge_id: string): Promise<number> {
  const { charge, capture_rule, webhook_rule, authorization_key } = acquirer.book.charge(charge_id)!;
  if (charge.status !== 'pending') return 0;
  const { amount_minor } = charge;
  const own = { operation_id: newId('op'), idempotency_key: null, amount_minor, created_at: now() };
  const facts = { ...own, authorization_key };
  const operation = decided('settlement', charge, { charge: { ...charge, status: 'authorized' } }, facts);
  return commit(acquirer, { request_hash: null, http_status: 200, capture_rule, webhook_rule, operation });
}

const failsFirst: ReadonlySet<AuthorizationRule> = new Set(['silent_before_acting', 'fail_before_acting']);

function initialStatus(rule: AuthorizationRule, decline_code: string | null): ChargeStatus {
  if (rule === 'pending') return 'pending';
  return decline_code === null ? 'authorized' : 'declined';
}

const now = () => new Date().toISOString();
const newId = (prefix: 'ch' | 'op' | 'pm') => `${prefix}_${randomUUID().replaceAll('-', '')}`;
const hashRequest = (...parts: readonly unknown[]) => hash('sha256', JSON.stringify(parts), 'base64url');
const silence = (reason: string): Reply => ({ kind: 'silence', reason });
const answer = (record: OperationRecord, replayed: boolean): Reply => ({
  kind: 'answer',
  http_status: record.http_status,
  body: answerBody(record),
  replayed,
});
