import { hash, randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type Book, openBook } from './book.ts';
import { type AuthorizationRule, type Card, cards } from './cards.ts';
import { type Charge, type ChargeStatus, capture, type Decision, expire, refund, voidAuthorization } from './charge.ts';
import type { Config } from './config.ts';
import * as errors from './errors.ts';
import { type Expiries, openExpiries } from './expiries.ts';
import { describe, type Logger } from './logger.ts';
import { cancelled, decided, type OperationRecord, responseBody } from './record.ts';
import { createTurns, type Turns } from './turns.ts';
import { noWebhooks, openWebhooks, type Webhooks } from './webhooks.ts';

/**
 * The card processor. Every response comes from durable records, and memory changes only after the record is on disk.
 * Requests with the same idempotency key run one after another, and so do operations on the same charge. A request
 * takes its turn for the key before that for the charge, so that requests cannot deadlock.
 */
export type Acquirer = {
  book: Book;
  inTurn: Turns;
  webhooks: Webhooks;
  slowMs: number;
  holdMs: number;
  logger: Logger;
  /** The timers that decide pending charges, by charge id. */
  pendingTimers: Map<string, NodeJS.Timeout>;
  /** Expires holds at their `expires_at`. */
  expiries: Expiries;
};

/** What a request gets. After `noResponse` the caller waits on an open connection until it gives up. */
export type Reply =
  | { kind: 'response'; http_status: number; body: object; replayed: boolean }
  | { kind: 'noResponse'; reason: string };

export type AuthorizationRequest = {
  order_reference: string;
  amount_minor: number;
  currency_code: string;
  payment_method: string;
  customer_reference?: string;
};

export type ChargeOperationKind = 'capture' | 'void' | 'refund';

/** The fields of an operation on a charge; a void has none. */
export type ChargeRequest = { amount_minor?: number; currency_code?: string };

/** Rebuilds the state from the data directory, and locks the directory until closeAcquirer. */
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
  const acquirer: Acquirer = { ...shared, slowMs, holdMs, pendingTimers: new Map() };
  for (const { charge } of book.charges()) if (charge.status === 'pending') decidePendingLater(acquirer, charge);
  expiries.resume([...book.charges()].map(({ charge }) => charge));
  logger.info('the log was opened', { operations: book.last(), cut_bytes: book.cutBytes });
  return acquirer;
}

export async function closeAcquirer({ book, pendingTimers, webhooks, expiries }: Acquirer): Promise<void> {
  for (const timer of pendingTimers.values()) clearTimeout(timer);
  await expiries.close();
  await webhooks.close();
  await book.close();
}

export async function authorize(acquirer: Acquirer, key: string, request: AuthorizationRequest): Promise<Reply> {
  const { book, inTurn, slowMs } = acquirer;
  const { order_reference, amount_minor, currency_code, payment_method } = request;
  const request_hash = hashRequest('authorization', order_reference, amount_minor, currency_code, payment_method);
  // Before the turn, so that a cancellation can overtake an authorization that waits here.
  if (isLate(book, request) && book.key(key) === undefined) await delay(slowMs);
  let settlement: Promise<number> | undefined;
  const reply = await inTurn<Reply>(`key ${key}`, async () => {
    const earlier = await book.recorded(key, request_hash);
    if (earlier !== undefined) return response(earlier, true);
    // Only for a new key: a repeat gets its recorded operation whatever has become of the token.
    const card = cardOf(book, request);
    if (failsFirst.has(card.authorization) && (await book.commitAttempt(key, request_hash))) {
      if (card.authorization === 'fail_before_acting') throw errors.cardError();
      return noResponse('the card is silent before it acts');
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
    if (card.webhook === 'before_answer') settlement = decidePending(acquirer, charge.charge_id);
    else if (status === 'pending') decidePendingLater(acquirer, charge);
    if (card.authorization === 'silent_after_acting') return noResponse('the card is silent after it acted');
    return response(record, false);
  });
  // After the turn, because the receiver of the webhook asks for the operation of this key.
  if (settlement !== undefined) await acquirer.webhooks.attempted(await settlement, slowMs);
  return reply;
}

const isLate = (book: Book, { payment_method }: AuthorizationRequest): boolean =>
  cards.get(book.method(payment_method)?.card ?? payment_method)?.authorization === 'late';

/** The test card of a token. Throws when the token was issued to another customer. */
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
  return { kind: 'response', http_status: 201, body: method, replayed: false };
}

/** Appends a record to the log, then wakes the webhooks. Returns its position. */
async function commit({ book, webhooks }: Acquirer, record: OperationRecord): Promise<number> {
  const position = await book.commit(record);
  webhooks.wake();
  return position;
}

/** Captures, voids or refunds. A refusal is recorded and repeated under its key; `charge_unknown` is not recorded. */
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
    if (earlier !== undefined) return response(earlier, true);
    return inTurn(`charge ${charge_id}`, async () => {
      // A hold past its `expires_at` has expired, also when its timer is late.
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
      return silent ? noResponse('the card is silent after its capture') : response(record, false);
    });
  });
}

/** Prevents a key without an operation from ever acting. For a key with an operation, responds with that operation. */
export async function cancel({ book, inTurn }: Acquirer, key: string): Promise<Reply> {
  return inTurn(`key ${key}`, async () => {
    const known = book.key(key);
    if (known?.cancelled) return response(await book.read(known.position), true);
    if (known) {
      return {
        kind: 'response',
        http_status: 200,
        body: await currentOperation(book, known.position),
        replayed: false,
      };
    }
    const operation = cancelled({ operation_id: newId('op'), idempotency_key: key, created_at: now() });
    const record: OperationRecord = { request_hash: null, http_status: 201, capture_rule: 'answer', operation };
    await book.commit(record);
    return response(record, false);
  });
}

/** The operation of a key. Waits for one that is being written, so that "unknown" means not recorded. */
export async function findOperation({ book, inTurn }: Acquirer, key: string): Promise<object> {
  return inTurn(`key ${key}`, async () => {
    const known = book.key(key);
    if (known !== undefined) return currentOperation(book, known.position);
    // After a failed write it is unknown which records a restart will find in the file.
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

/** The operations with these ids that exist, in the order of the log. */
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

/** An operation with the charge as it is now. A pending authorization that was decided since is `authorized`. */
async function currentOperation(book: Book, position: number): Promise<object> {
  const { operation } = await book.read(position);
  const charge = operation.charge_id === null ? null : book.charge(operation.charge_id)!.charge;
  const status = operation.status === 'pending' && charge?.status !== 'pending' ? 'authorized' : operation.status;
  return { position, ...operation, status, charge };
}

/** Expires a hold now, whatever its `expires_at`; for tests. */
export async function expireNow(acquirer: Acquirer, charge_id: string): Promise<Reply> {
  const { book, inTurn } = acquirer;
  return inTurn(`charge ${charge_id}`, async () => {
    const known = book.charge(charge_id);
    if (known === undefined) throw errors.chargeUnknown();
    const { refusal } = expire(known.charge);
    if (refusal) throw new errors.Problem(refusal.http_status, refusal.code, refusal.message);
    const position = await commitExpiration(acquirer, charge_id);
    const { operation } = await book.read(position);
    return { kind: 'response', http_status: 201, body: operation, replayed: false };
  });
}

/** The caller has the turn of the charge. */
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

function decidePendingLater(acquirer: Acquirer, { charge_id }: Charge): void {
  const { inTurn, pendingTimers, slowMs, logger } = acquirer;
  const timer = setTimeout(() => {
    pendingTimers.delete(charge_id);
    inTurn(`charge ${charge_id}`, () => decidePending(acquirer, charge_id)).catch((error) => {
      const message = 'a pending charge could not be decided; a restart retries';
      logger.error(message, { charge_id, error: describe(error) });
    });
  }, slowMs);
  pendingTimers.set(charge_id, timer);
}

/** Authorizes a pending charge. Returns the position of the record, or 0 when the charge was decided before. */
async function decidePending(acquirer: Acquirer, charge_id: string): Promise<number> {
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
const noResponse = (reason: string): Reply => ({ kind: 'noResponse', reason });
const response = (record: OperationRecord, replayed: boolean): Reply => ({
  kind: 'response',
  http_status: record.http_status,
  body: responseBody(record),
  replayed,
});
