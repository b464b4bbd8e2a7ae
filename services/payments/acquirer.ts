import { type CallContext, inTransaction } from '@armature/runtime';
import { syncPoint } from '@armature/runtime/sync';
import { Counter, Histogram, latencyBuckets, type Registry } from '@armature/runtime/telemetry';
import { type HttpAnswer, type HttpQuestion, httpClient } from './acquirer-http.ts';
import { type LoggedOperation, type LoggedPage, readOperations, readPage } from './acquirer-page.ts';
import { type Answer, needsConfirmation, readAnswer, readCharge } from './answer.ts';
import { acquirerUnavailable } from './errors.ts';
import { nudges } from './nudges.ts';
import type { HoldEnd, OperationKind, Outcome } from './payment.ts';

export interface AcquirerOptions {
  url: string;
  timeoutMs: number;
  connectionsMax: number;
  registry: Registry;
}

export interface AuthorizationRequest {
  orderId: string;
  customerId: string;
  amountMinor: bigint;
  currencyCode: string;
  paymentMethod: string;
}

/** What is done to a charge. */
export type ChargeOperation = 'capture' | 'void' | 'refund';

/** What a capture, void or refund is asked with. A void has no amount. */
export interface ChargeRequest {
  chargeId: string;
  amountMinor: bigint;
}

/**
 * The acquirer, asked under keys that make every request safe to repeat. Each function answers with an
 * outcome that is certain, or throws UNAVAILABLE ACQUIRER_UNAVAILABLE: silence is never taken for a no.
 */
export interface Acquirer {
  authorize(call: CallContext, key: string, request: AuthorizationRequest): Promise<Outcome>;
  operate(call: CallContext, kind: ChargeOperation, key: string, request: ChargeRequest): Promise<Outcome>;
  /** Keeps a key that has not acted from ever acting; says what it did if it has. */
  cancel(call: CallContext, kind: OperationKind, key: string): Promise<Outcome>;
  /** What became of a key; null when nothing is recorded under it. */
  find(call: CallContext, kind: OperationKind, key: string): Promise<Outcome | null>;
  /**
   * What became of a key, by the operations of its charge, which the acquirer keeps for longer than keys. Null where
   * none of them has the key.
   */
  findOnCharge(call: CallContext, kind: ChargeOperation, key: string, chargeId: string): Promise<Outcome | null>;
  /** How the hold of a charge has ended other than by a capture; null where it has not. The key is that of the void, if it was one. */
  holdEnd(call: CallContext, chargeId: string): Promise<{ end: HoldEnd; key: string } | null>;
  /** The capture of a charge, under whatever key; null where it has none, or where a refund has followed. */
  captureOf(call: CallContext, chargeId: string): Promise<{ externalId: string; amountMinor: bigint } | null>;
  /** The status of a charge, such as "captured"; null where the acquirer knows no such charge. */
  chargeStatus(call: CallContext, chargeId: string): Promise<string | null>;
  /** Those of up to 100 operations that the acquirer's log has. */
  lookUp(call: CallContext, externalIds: readonly string[]): Promise<LoggedOperation[]>;
  /** Operations of the acquirer's log after a position, as they were written. */
  page(call: CallContext, after: number, limit: number): Promise<LoggedPage>;
  /** There is news of a key: whoever waits for its outcome asks at once. */
  nudge(key: string): void;
  close(): void;
}

/** Kept back from the first attempt, so that there is time to ask what became of it and to write that down. */
const shareOfFirstAttempt = 0.6;
const statusTimeoutMs = 1_000;
/** With less than this left nothing is sent any more. */
const timeLeftMinMs = 20;
const pollDelayMs = { first: 50, most: 500 };

export function acquirer(options: AcquirerOptions): Acquirer {
  const http = httpClient(options.url, options.connectionsMax);
  const news = nudges();
  const metrics = acquirerMetrics(options.registry);

  /** One request under a deadline; everything that is not a whole answer is "unknown". */
  const ask = async (call: CallContext, kind: OperationKind, what: string, question: Question): Promise<Answer> => {
    if (inTransaction(call)) throw new Error(`${what}: the acquirer must not be asked inside a transaction`);
    const pass = syncPoint(call);
    if (pass) await pass(`call acquirer ${what}`);
    const timeoutMs = Math.min(question.timeoutMs, call.deadline - Date.now());
    const stop = metrics.seconds.startTimer({ operation: what });
    const answer = await sendOrUnknown(call, { ...question, timeoutMs });
    stop();
    const said: Answer = 'status' in answer ? readAnswer(kind, answer) : answer;
    metrics.answers.inc({ operation: what, answer: said.kind });
    if (said.kind === 'unknown')
      call.log.warn({ err: said.cause, operation: what }, 'no certain answer of the acquirer');
    return said;
  };
  const sendOrUnknown = async (call: CallContext, question: Question): Promise<HttpAnswer | Answer> => {
    if (question.timeoutMs < timeLeftMinMs) return { kind: 'unknown', cause: new Error('no time is left to ask') };
    try {
      return await http.send({ ...question, signal: call.signal });
    } catch (error) {
      return { kind: 'unknown', cause: error instanceof Error ? error : new Error(String(error)) };
    }
  };
  const status = (call: CallContext, kind: OperationKind, key: string): Promise<Answer> =>
    ask(call, kind, 'status', {
      method: 'GET',
      path: `/v1/operations?idempotency_key=${encodeURIComponent(key)}`,
      timeoutMs: statusTimeoutMs,
    });

  /** Asks for the status while an authorization is undecided, as long as the call has time. */
  const decided = async (call: CallContext, kind: OperationKind, key: string, first: Answer): Promise<Answer> => {
    let answer = first;
    let delayMs = pollDelayMs.first;
    while (answer.kind === 'pending') {
      if (call.deadline - Date.now() < delayMs + timeLeftMinMs) throw acquirerUnavailable(new Error('still pending'));
      await news.wait(key, delayMs, call.signal);
      call.signal.throwIfAborted();
      delayMs = Math.min(delayMs * 2, pollDelayMs.most);
      answer = await status(call, kind, key);
    }
    return answer;
  };

  /** A mutation: when its answer does not come, its key is asked about before anything is concluded. */
  const mutate = async (call: CallContext, kind: OperationKind, key: string, question: Question): Promise<Outcome> => {
    const timeoutMs = Math.min(question.timeoutMs, (call.deadline - Date.now()) * shareOfFirstAttempt);
    let answer = await ask(call, kind, kind, { ...question, key, timeoutMs });
    if (answer.kind === 'unknown') answer = await status(call, kind, key);
    else if (needsConfirmation(answer)) {
      const recorded = await status(call, kind, key);
      if (recorded.kind !== 'unrecorded') answer = recorded;
    }
    return certain(await decided(call, kind, key, answer));
  };

  /** Reads from the log. Half a response is none. */
  const read = async <T>(call: CallContext, path: string, parse: (body: unknown) => T | null): Promise<T> => {
    const { timeoutMs } = options;
    const answer = await sendOrUnknown(call, { method: 'GET', path, timeoutMs, bytesMax: pageBytesMax });
    if (!('status' in answer)) throw acquirerUnavailable('cause' in answer ? answer.cause : answer);
    const parsed = answer.status === 200 ? parse(answer.body) : null;
    if (!parsed) throw acquirerUnavailable(new Error(`GET ${path} was answered ${answer.status}`));
    return parsed;
  };

  async function* operationsOf(call: CallContext, chargeId: string): AsyncGenerator<LoggedOperation> {
    for (let after = 0; ; ) {
      const path = `/v1/charges/${encodeURIComponent(chargeId)}/operations?after=${after}&limit=${pageLimit}`;
      const page = await read(call, path, readPage);
      yield* page.operations;
      if (!page.hasMore) return;
      after = page.nextAfter;
    }
  }

  return {
    authorize: (call, key, request) =>
      mutate(call, 'authorize', key, {
        method: 'POST',
        path: '/v1/charges',
        timeoutMs: options.timeoutMs,
        body: {
          order_reference: request.orderId,
          customer_reference: request.customerId,
          amount_minor: Number(request.amountMinor),
          currency_code: request.currencyCode,
          payment_method: request.paymentMethod,
        },
      }),
    operate: (call, kind, key, { chargeId, amountMinor }) =>
      mutate(call, kind, key, {
        method: 'POST',
        path: `/v1/charges/${encodeURIComponent(chargeId)}/${kind}`,
        timeoutMs: options.timeoutMs,
        body: kind === 'void' ? {} : { amount_minor: Number(amountMinor) },
      }),
    async cancel(call, kind, key) {
      const body = { idempotency_key: key };
      const question = { method: 'POST', path: '/v1/cancellations', timeoutMs: options.timeoutMs, body } as const;
      const answer = await ask(call, kind, 'cancel', question);
      return certain(await decided(call, kind, key, answer));
    },
    async find(call, kind, key) {
      const answer = await decided(call, kind, key, await status(call, kind, key));
      return answer.kind === 'unrecorded' ? null : certain(answer);
    },
    async findOnCharge(call, kind, key, chargeId) {
      for await (const operation of operationsOf(call, chargeId)) {
        if (operation.key !== key) continue;
        return certain(readAnswer(kind, { status: 200, body: operation.body }));
      }
      return null;
    },
    async holdEnd(call, chargeId) {
      for await (const { kind, status, key, externalId } of operationsOf(call, chargeId)) {
        const how = holdEnds[`${kind} ${status}`];
        if (how) return { end: { how, externalId }, key: kind === 'void' ? key : '' };
      }
      return null;
    },
    async captureOf(call, chargeId) {
      let capture: { externalId: string; amountMinor: bigint } | null = null;
      for await (const { kind, status, externalId, amountMinor } of operationsOf(call, chargeId)) {
        if (kind === 'refund' && status === 'refunded') return null;
        if (kind === 'capture' && status === 'captured')
          capture = { externalId, amountMinor: BigInt(amountMinor ?? 0) };
      }
      return capture;
    },
    async chargeStatus(call, chargeId) {
      const path = `/v1/charges/${encodeURIComponent(chargeId)}`;
      const answer = await sendOrUnknown(call, { method: 'GET', path, timeoutMs: options.timeoutMs });
      if (!('status' in answer)) throw acquirerUnavailable('cause' in answer ? answer.cause : answer);
      const { status, unknown } = readCharge(answer);
      if (status === '' && !unknown) throw acquirerUnavailable(new Error(`GET ${path} was answered ${answer.status}`));
      return unknown ? null : status;
    },
    async lookUp(call, externalIds) {
      const path = `/v1/operations?operation_ids=${externalIds.map(encodeURIComponent).join(',')}`;
      return read(call, path, readOperations);
    },
    page: (call, after, limit) => read(call, `/v1/operations?after=${after}&limit=${limit}`, readPage),
    nudge: news.nudge,
    close: http.close,
  };
}

/** What ends a hold without a capture. */
const holdEnds: Readonly<Record<string, 'expired' | 'voided_externally'>> = {
  'expiration expired': 'expired',
  'void voided': 'voided_externally',
};
/** An operation takes about 1 KiB. */
const pageLimit = 500;
const pageBytesMax = 4 * 1024 * 1024;

type Question = Omit<HttpQuestion, 'signal'>;

function certain(answer: Answer): Outcome {
  switch (answer.kind) {
    case 'unknown':
      throw acquirerUnavailable(answer.cause);
    case 'unrecorded':
    case 'pending':
      throw acquirerUnavailable(new Error(`the operation is ${answer.kind}`));
    default:
      return answer;
  }
}

function acquirerMetrics(registry: Registry) {
  return {
    answers: new Counter({
      name: 'armature_acquirer_responses_total',
      help: 'What the acquirer answered, by operation; "unknown" is no usable answer',
      labelNames: ['operation', 'answer'],
      registers: [registry],
    }),
    seconds: new Histogram({
      name: 'armature_acquirer_seconds',
      help: 'How long the acquirer took to answer, or we to give up',
      labelNames: ['operation'],
      buckets: latencyBuckets,
      registers: [registry],
    }),
  };
}
