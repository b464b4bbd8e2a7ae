import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Background, type Call, RpcError } from '@armature/runtime';
import type { Answer } from '@armature/runtime/http/https-server.ts';
import { crashPoint } from '@armature/runtime/sync/crash-point.ts';
import { Counter, type Registry } from '@armature/runtime/telemetry/metrics.ts';
import type { Acquirer } from './acquirer.ts';
import { explainRefusal } from './operations.ts';
import type { Operation } from './payment.ts';
import { isOperationId, judge, readEvent, type Verdict, type WebhookEvent } from './webhook.ts';
import type { WebhookStore } from './webhook-store.ts';

export const webhookPath = '/v1/acquirer/events';
export const webhookLimits = {
  connectionsMax: 256,
  headersTimeoutMs: 3_000,
  requestTimeoutMs: 5_000,
  answerTimeoutMs: 10_000,
  headerBytesMax: 8 * 1024,
  headersMax: 50,
  bodyBytesMax: 16 * 1024,
};
const settleTimeoutMs = 4_000;

/** What became of a request, as it is counted, and the status that says so. Anything but 2xx is delivered again. */
const answers = {
  settled: 200,
  /** Its event had its effect before. */
  repeated: 200,
  /** The operation had its outcome before. */
  known: 200,
  /** About a key that no operation of ours can have. */
  foreign: 200,
  malformed: 400,
  unsigned: 401,
  forged: 401,
  untimely: 401,
  /** Wrong path. */
  lost: 404,
  /** An operation that we may have forgotten, say in a restored database; reconciliation tells. */
  unknown: 404,
  wrong_method: 405,
  too_large: 413,
  wrong_type: 415,
  failed: 500,
  busy: 503,
  /** The acquirer does not confirm what its webhook said, or does not answer. */
  unconfirmed: 503,
} as const;

type Outcome = keyof typeof answers;

export interface ReceiverOptions {
  store: WebhookStore;
  acquirer: Acquirer;
  background: Background;
  registry: Registry;
  /** The current one, and the one before or after it while they are being replaced. */
  secrets: readonly string[];
  inFlightMax: number;
}

/**
 * Receives the acquirer's webhooks. One is a hint: it makes us ask the acquirer what became of an operation, as the
 * sweeper would some seconds later, and settle that. Bodies are not logged, and not believed about money.
 */
export function webhookReceiver(options: ReceiverOptions): Answer {
  const { background, secrets, inFlightMax } = options;
  const received = new Counter({
    name: 'armature_webhooks_received_total',
    help: 'Requests to the endpoint for webhooks of the acquirer, by what became of them',
    labelNames: ['outcome'],
    registers: [options.registry],
  });
  let inFlight = 0;
  const settling = shared((event: WebhookEvent, call) => settle(options, call, event));

  const outcomeOf = async (request: IncomingMessage, call: Call): Promise<Outcome> => {
    const misdirected = readRequestLine(request);
    if (misdirected) return misdirected;
    if (inFlight > inFlightMax) return 'busy';
    const body = await readBody(request);
    if (!body) return 'too_large';
    const verdict: Verdict = judge(request.headers['acquirer-signature'], body, secrets, Date.now());
    if (verdict !== 'genuine') return verdict;
    const event = readEvent(body);
    if (!event) return 'malformed';
    crashPoint('payments.webhook-received');
    return settling(event, call);
  };

  return async (request, response) => {
    inFlight += 1;
    const call = background('acquirer webhook', settleTimeoutMs);
    try {
      const outcome = await outcomeOf(request, call).catch((error: unknown): Outcome | null => {
        // A sender that goes away in the middle of its body hears no answer.
        if (request.destroyed && !request.complete) return null;
        call.log.error({ err: error }, 'a webhook could not be dealt with');
        return 'failed';
      });
      received.inc({ outcome: outcome ?? 'hung_up' });
      if (outcome === 'forged' || outcome === 'untimely') call.log.warn({ outcome }, 'a webhook was refused');
      if (outcome) answer(response, outcome);
    } finally {
      inFlight -= 1;
      call.close();
    }
  };
}

function readRequestLine({ method, url, headers }: IncomingMessage): Outcome | null {
  if (url !== webhookPath) return 'lost';
  if (method !== 'POST') return 'wrong_method';
  if (!/^application\/json(;|$)/i.test(headers['content-type'] ?? '')) return 'wrong_type';
  return null;
}

/** Null when it is too large. How long it may take is up to the server. */
async function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > webhookLimits.bodyBytesMax) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function answer(response: ServerResponse, outcome: Outcome): void {
  const status = answers[outcome];
  if (status === 405) response.setHeader('Allow', 'POST');
  if (status === 503) response.setHeader('Retry-After', '1');
  // What was not read of a body must not be taken for the next request.
  if (!response.req.complete) response.setHeader('Connection', 'close');
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify({ outcome }));
}

/** Deliveries of one event that arrive at once are dealt with once. */
function shared(work: (event: WebhookEvent, call: Call) => Promise<Outcome>): typeof work {
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

async function settle(options: ReceiverOptions, call: Call, event: WebhookEvent): Promise<Outcome> {
  const byKey = await settleOperation(options, call, event);
  // Also where the key was not ours: a hold can be ended by a request of the acquirer's own.
  if (event.endedChargeId === '' || byKey === 'unconfirmed') return byKey;
  return (await settleHold(options, call, event)) ?? byKey;
}

async function settleOperation(
  { store, acquirer }: ReceiverOptions,
  call: Call,
  event: WebhookEvent,
): Promise<Outcome> {
  if (!isOperationId(event.key)) return 'foreign';
  const operation = await store.operation(call, event.key);
  if (!operation) return 'unknown';
  if (operation.state !== 'PENDING') return 'known';
  const outcome = await unlessUnavailable(outcomeOf(store, acquirer, call, operation));
  if (!outcome) return 'unconfirmed';
  const settled = await store.settle(call, event.eventId, operation, outcome);
  acquirer.nudge(operation.key);
  return settled ? 'settled' : 'repeated';
}

async function outcomeOf(store: WebhookStore, acquirer: Acquirer, call: Call, operation: Operation) {
  const outcome = await acquirer.find(call, operation.kind, operation.key);
  return outcome && explainRefusal(acquirer, call, operation, await store.chargeId(call, operation), outcome);
}

/** Null where the hold of that charge is none of ours, or has not ended after all. */
async function settleHold(
  { store, acquirer }: ReceiverOptions,
  call: Call,
  { eventId, endedChargeId }: WebhookEvent,
): Promise<Outcome | null> {
  const payment = await store.payment(call, endedChargeId);
  if (!payment) return null;
  if (payment.state !== 'AUTHORIZED') return 'known';
  const ended = await unlessUnavailable(acquirer.holdEnd(call, endedChargeId));
  if (!ended) return 'unconfirmed';
  // A void of ours has its own outcome, which is recorded as such.
  if (isOperationId(ended.key) && (await store.operation(call, ended.key))) return null;
  // The row of an event is inserted once, and the key may have used it: the end of a hold has a name of its own.
  const settled = await store.endHold(call, `${eventId.slice(0, 95)}/hold`, payment, ended.end);
  return settled ? 'settled' : 'repeated';
}

/** Null where the acquirer did not answer for certain. */
async function unlessUnavailable<T>(asked: Promise<T>): Promise<T | null> {
  return asked.catch((error: unknown) => {
    if (error instanceof RpcError && error.code === 'UNAVAILABLE') return null;
    throw error;
  });
}
