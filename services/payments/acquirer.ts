import type { Call } from '@armature/runtime';
import { raceGate } from '@armature/runtime/race-gate.ts';
import { Counter, Histogram, latencyBuckets, type Registry } from '@armature/runtime/telemetry/metrics.ts';
import { type HttpAnswer, type HttpQuestion, httpClient } from './acquirer-http.ts';
import { type LoggedPage, readPage } from './acquirer-page.ts';
import { type Answer, readAnswer } from './answer.ts';
import { acquirerUnavailable } from './errors.ts';
import { nudges } from './nudges.ts';
import type { OperationKind, Outcome } from './payment.ts';

export interface AcquirerOptions {
  url: string;
  timeoutMs: number;
  connectionsMax: number;
  registry: Registry;
}

export interface AuthorizationRequest {
  orderId: string;
  amountMinor: bigint;
  currencyCode: string;
  paymentMethod: string;
}

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
  authorize(call: Call, key: string, request: AuthorizationRequest): Promise<Outcome>;
  operate(call: Call, kind: 'capture' | 'void' | 'refund', key: string, request: ChargeRequest): Promise<Outcome>;
  /** Keeps an authorization that has not acted from ever acting; answers what it did if it has. */
  cancelAuthorization(call: Call, key: string): Promise<Outcome>;
  /** What became of a key; null when nothing is recorded under it. */
  find(call: Call, kind: OperationKind, key: string): Promise<Outcome | null>;
  /** Operations of the acquirer's log after a position, as they were written. */
  page(call: Call, after: number, limit: number): Promise<LoggedPage>;
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
  const ask = async (call: Call, kind: OperationKind, what: string, question: Question): Promise<Answer> => {
    if (call.inTransaction) throw new Error(`${what}: the acquirer must not be asked inside a transaction`);
    const pass = raceGate(call);
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
  const sendOrUnknown = async (call: Call, question: Question): Promise<HttpAnswer | Answer> => {
    if (question.timeoutMs < timeLeftMinMs) return { kind: 'unknown', cause: new Error('no time is left to ask') };
    try {
      return await http.send({ ...question, signal: call.signal });
    } catch (error) {
      return { kind: 'unknown', cause: error instanceof Error ? error : new Error(String(error)) };
    }
  };
  const status = (call: Call, kind: OperationKind, key: string): Promise<Answer> =>
    ask(call, kind, 'status', {
      method: 'GET',
      path: `/v1/operations?idempotency_key=${encodeURIComponent(key)}`,
      timeoutMs: statusTimeoutMs,
    });

  /** Asks for the status while an authorization is undecided, as long as the call has time. */
  const decided = async (call: Call, kind: OperationKind, key: string, first: Answer): Promise<Answer> => {
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
  const mutate = async (call: Call, kind: OperationKind, key: string, question: Question): Promise<Outcome> => {
    const timeoutMs = Math.min(question.timeoutMs, (call.deadline - Date.now()) * shareOfFirstAttempt);
    let answer = await ask(call, kind, kind, { ...question, key, timeoutMs });
    if (answer.kind === 'unknown') answer = await status(call, kind, key);
    return certain(await decided(call, kind, key, answer));
  };

  return {
    authorize: (call, key, request) =>
      mutate(call, 'authorize', key, {
        method: 'POST',
        path: '/v1/charges',
        timeoutMs: options.timeoutMs,
        body: {
          order_reference: request.orderId,
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
    async cancelAuthorization(call, key) {
      const body = { idempotency_key: key };
      const question = { method: 'POST', path: '/v1/cancellations', timeoutMs: options.timeoutMs, body } as const;
      const answer = await ask(call, 'authorize', 'cancel', question);
      return certain(await decided(call, 'authorize', key, answer));
    },
    async find(call, kind, key) {
      const answer = await decided(call, kind, key, await status(call, kind, key));
      return answer.kind === 'unrecorded' ? null : certain(answer);
    },
    async page(call, after, limit) {
      const question = {
        method: 'GET',
        path: `/v1/operations?after=${after}&limit=${limit}`,
        timeoutMs: options.timeoutMs,
      } as const;
      const answer = await sendOrUnknown(call, question);
      if (!('status' in answer)) throw acquirerUnavailable('cause' in answer ? answer.cause : answer);
      const page = answer.status === 200 ? readPage(answer.body) : null;
      if (!page) throw acquirerUnavailable(new Error(`a page of the log was answered ${answer.status}`));
      return page;
    },
    nudge: news.nudge,
    close: http.close,
  };
}

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
      name: 'armature_acquirer_answers_total',
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
