import { type Background, type CallContext, RpcError } from '@armature/runtime';
import {
  type HttpApp,
  HttpError,
  type HttpReply,
  type HttpRequest,
  type HttpsServerOptions,
  httpErrorOf,
  route,
} from '@armature/runtime/http';
import { crashPoint } from '@armature/runtime/sync';
import { Counter, type Registry } from '@armature/runtime/telemetry';
import type { Acquirer } from './acquirer.ts';
import { explainRefusal } from './acquirer-operations.ts';
import type { Operation } from './payment.ts';
import { isOperationId, readEvent, type Verdict, verifySignature, type WebhookEvent } from './webhook.ts';
import type { WebhookStore } from './webhook-store.ts';

export const webhookPath = '/v1/acquirer/events';
const limits = {
  connectionsMax: 256,
  headersTimeoutMs: 3_000,
  requestTimeoutMs: 5_000,
  responseTimeoutMs: 10_000,
  headerBytesMax: 8 * 1024,
  headersMax: 50,
  bodyBytesMax: 16 * 1024,
};
const processTimeoutMs = 4_000;

/** The outcome of a request, as it is counted, and its HTTP status. The acquirer delivers again unless it is 2xx. */
const statuses = {
  settled: 200,
  /** The event was processed before. */
  repeated: 200,
  /** The operation has completed before. */
  known: 200,
  /** The key is not an id of an operation. */
  foreign: 200,
  malformed: 400,
  unsigned: 401,
  forged: 401,
  untimely: 401,
  /** Wrong path. */
  lost: 404,
  /** The operation is not in the database, for example after a restore. Reconciliation detects it. */
  unknown: 404,
  wrong_method: 405,
  too_large: 413,
  wrong_type: 415,
  failed: 500,
  busy: 503,
  /** The acquirer does not confirm the webhook, or does not respond. */
  unconfirmed: 503,
} as const;

type Outcome = keyof typeof statuses;

/** The outcome of a request that is refused before its event is read, by the code of the refusal. */
const refusals: Readonly<Record<string, Outcome>> = {
  not_found: 'lost',
  method_not_allowed: 'wrong_method',
  body_too_large: 'too_large',
  media_type_unsupported: 'wrong_type',
  request_invalid: 'malformed',
  busy: 'busy',
};
const refusalOf = ({ code }: HttpError): Outcome => refusals[code] ?? 'failed';
const retryAfter = { 'Retry-After': '1' };

export interface ReceiverOptions {
  store: WebhookStore;
  acquirer: Acquirer;
  background: Background;
  registry: Registry;
  /** The current secret, and the previous or next one during a rotation. */
  secrets: readonly string[];
  inFlightMax: number;
}

/**
 * Receives the acquirer's webhooks. A webhook is a hint: the receiver requests the status of the operation from the
 * acquirer, as the periodic job would some seconds later, and completes it. Bodies are not logged, and their amounts
 * and outcomes are not used.
 */
export function webhookReceiver(options: ReceiverOptions): Pick<HttpsServerOptions, 'routes' | 'errorBody' | 'limits'> {
  const { background, secrets, inFlightMax } = options;
  const received = new Counter({
    name: 'armature_webhooks_received_total',
    help: 'Requests to the endpoint for webhooks of the acquirer, by what became of them',
    labelNames: ['outcome'],
    registers: [options.registry],
  });
  let inFlight = 0;
  const processOnce = coalesced((event: WebhookEvent, call) => processEvent(options, call, event));

  const admit = async (_request: HttpRequest, { raw }: HttpReply): Promise<void> => {
    if (inFlight >= inFlightMax) throw new HttpError(503, 'busy', { headers: retryAfter });
    inFlight += 1;
    // Also emitted where the sender closes the connection before a response.
    raw.once('close', () => {
      inFlight -= 1;
    });
  };

  const outcomeOf = async ({ headers, body }: HttpRequest, call: CallContext): Promise<Outcome> => {
    if (!Buffer.isBuffer(body)) return 'wrong_type';
    const verdict: Verdict = verifySignature(headers['acquirer-signature'], body, secrets, Date.now());
    if (verdict !== 'genuine') return verdict;
    const event = readEvent(body);
    if (!event) return 'malformed';
    crashPoint('payments.webhook-received');
    return processOnce(event, call);
  };

  const receive = async (request: HttpRequest, reply: HttpReply) => {
    const call = background('acquirer webhook', processTimeoutMs);
    try {
      const outcome = await outcomeOf(request, call).catch((error: unknown): Outcome => {
        call.log.error({ err: error }, 'a webhook could not be processed');
        return 'failed';
      });
      received.inc({ outcome });
      if (outcome === 'forged' || outcome === 'untimely') call.log.warn({ outcome }, 'a webhook was refused');
      const status = statuses[outcome];
      return reply
        .code(status)
        .headers(status === 503 ? retryAfter : {})
        .send({ outcome });
    } finally {
      call.close();
    }
  };

  return {
    limits,
    errorBody: (error) => ({ type: 'application/json', body: JSON.stringify({ outcome: refusalOf(error) }) }),
    routes(app: HttpApp) {
      // A signature covers the received bytes.
      app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
      app.addHook('onError', async ({ raw }, _reply, error) => {
        // A sender that closes the connection within its body gets no response.
        const hungUp = raw.destroyed && !raw.complete;
        received.inc({ outcome: hungUp ? 'hung_up' : refusalOf(httpErrorOf(error)) });
      });
      route(app, webhookPath, { POST: receive }, [admit]);
    },
  };
}

/** Concurrent deliveries of one event are processed once. */
function coalesced(work: (event: WebhookEvent, call: CallContext) => Promise<Outcome>): typeof work {
  const underWay = new Map<string, Promise<Outcome>>();
  return (event, call) => {
    const id = `${event.eventId}\n${event.key}`;
    const same = underWay.get(id);
    if (same) return same;
    const mine = work(event, call).finally(() => underWay.delete(id));
    underWay.set(id, mine);
    return mine;
  };
}

async function processEvent(options: ReceiverOptions, call: CallContext, event: WebhookEvent): Promise<Outcome> {
  const byKey = await completeByKey(options, call, event);
  // Also where the key is foreign: the acquirer can end a hold by a request of its own.
  if (event.endedChargeId === '' || byKey === 'unconfirmed') return byKey;
  return (await recordHoldEnd(options, call, event)) ?? byKey;
}

async function completeByKey(
  { store, acquirer }: ReceiverOptions,
  call: CallContext,
  event: WebhookEvent,
): Promise<Outcome> {
  if (!isOperationId(event.key)) return 'foreign';
  const operation = await store.operation(call, event.key);
  if (!operation) return 'unknown';
  if (operation.state !== 'PENDING') return 'known';
  const outcome = await unlessUnavailable(outcomeOf(store, acquirer, call, operation));
  if (!outcome) return 'unconfirmed';
  const isFirst = await store.completeOperation(call, event.eventId, operation, outcome);
  acquirer.wake(operation.key);
  return isFirst ? 'settled' : 'repeated';
}

async function outcomeOf(store: WebhookStore, acquirer: Acquirer, call: CallContext, operation: Operation) {
  const outcome = await acquirer.find(call, operation.kind, operation.key);
  return outcome && explainRefusal(acquirer, call, operation, await store.chargeId(call, operation), outcome);
}

/** Null where the charge belongs to no payment, or where a void of this service ended the hold. */
async function recordHoldEnd(
  { store, acquirer }: ReceiverOptions,
  call: CallContext,
  { eventId, endedChargeId }: WebhookEvent,
): Promise<Outcome | null> {
  const payment = await store.payment(call, endedChargeId);
  if (!payment) return null;
  if (payment.state !== 'AUTHORIZED') return 'known';
  const ended = await unlessUnavailable(acquirer.holdEnd(call, endedChargeId));
  if (!ended) return 'unconfirmed';
  // A void of this service has its own outcome, which is recorded as a void.
  if (isOperationId(ended.key) && (await store.operation(call, ended.key))) return null;
  // The row of an event is inserted once, and the operation may have used it, so the end of a hold has its own id.
  const isFirst = await store.endHold(call, `${eventId.slice(0, 95)}/hold`, payment, ended.end);
  return isFirst ? 'settled' : 'repeated';
}

/** Null where the outcome at the acquirer is unknown. */
async function unlessUnavailable<T>(outcome: Promise<T>): Promise<T | null> {
  return outcome.catch((error: unknown) => {
    if (error instanceof RpcError && error.code === 'UNAVAILABLE') return null;
    throw error;
  });
}
