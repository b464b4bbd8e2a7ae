import { type CallContext, exponentialBackoffMs, type WakeableSleeps, wakeableSleeps } from '@armature/runtime';
import { type AcquirerLogReader, acquirerLogReader, type ChargeOperation } from './acquirer-log-reader.ts';
import {
  type AcquirerRequest,
  type AcquirerTransport,
  acquirerTransport,
  type TransportOptions,
  timeLeftMinMs,
} from './acquirer-transport.ts';
import { acquirerUnavailable } from './errors.ts';
import { certainOutcome, needsConfirmation, type OperationStatus } from './operation-status.ts';
import type { OperationKind, Outcome } from './payment.ts';

export interface AuthorizationRequest {
  orderId: string;
  customerId: string;
  amountMinor: bigint;
  currencyCode: string;
  paymentMethod: string;
}

/** The request of a capture, void or refund. A void ignores the amount. */
export interface ChargeRequest {
  chargeId: string;
  amountMinor: bigint;
}

/**
 * The client of the acquirer. Each request has an idempotency key, so it is safe to repeat. Each method returns a
 * certain outcome, or throws UNAVAILABLE ACQUIRER_UNAVAILABLE: a missing response is an unknown outcome, never a
 * refusal.
 */
export interface Acquirer extends AcquirerLogReader {
  authorize(call: CallContext, key: string, request: AuthorizationRequest): Promise<Outcome>;
  operate(call: CallContext, kind: ChargeOperation, key: string, request: ChargeRequest): Promise<Outcome>;
  /** Cancels a key that has not acted, so that it never acts. Returns the outcome of a key that has acted. */
  cancel(call: CallContext, kind: OperationKind, key: string): Promise<Outcome>;
  /** The outcome of a key; null where the acquirer has no record of it. */
  find(call: CallContext, kind: OperationKind, key: string): Promise<Outcome | null>;
  /** A webhook about the key has arrived: requests that poll for its outcome poll at once. */
  wake(key: string): void;
  close(): void;
}

/**
 * The share of the remaining time that the first attempt may use. The rest is for the status request and the commit.
 */
const firstAttemptShare = 0.6;
const statusTimeoutMs = 1_000;
const pollBackoff = { initialBackoffMs: 50, maxBackoffMs: 500 };

export function acquirer(options: TransportOptions): Acquirer {
  const transport = acquirerTransport(options);
  const waiting = wakeableSleeps();
  const { timeoutMs } = options;

  /** Sends a mutation. Without a response, requests the status of its key before concluding anything. */
  const mutate = async (
    call: CallContext,
    kind: OperationKind,
    key: string,
    request: AcquirerRequest,
  ): Promise<Outcome> => {
    const firstTimeoutMs = Math.min(timeoutMs, (call.deadline - Date.now()) * firstAttemptShare);
    let status = await transport.request(call, kind, kind, { ...request, key, timeoutMs: firstTimeoutMs });
    if (status.kind === 'unknown') status = await requestStatus(transport, call, kind, key);
    else if (needsConfirmation(status)) {
      const recorded = await requestStatus(transport, call, kind, key);
      if (recorded.kind !== 'unrecorded') status = recorded;
    }
    return certainOutcome(await pollWhilePending(transport, waiting, call, { kind, key, status }));
  };

  return {
    ...acquirerLogReader(transport),

    authorize: (call, key, request) =>
      mutate(call, 'authorize', key, {
        method: 'POST',
        path: '/v1/charges',
        timeoutMs,
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
        timeoutMs,
        body: kind === 'void' ? {} : { amount_minor: Number(amountMinor) },
      }),

    async cancel(call, kind, key) {
      const request = { method: 'POST', path: '/v1/cancellations', timeoutMs, body: { idempotency_key: key } } as const;
      const status = await transport.request(call, kind, 'cancel', request);
      return certainOutcome(await pollWhilePending(transport, waiting, call, { kind, key, status }));
    },

    async find(call, kind, key) {
      const current = await requestStatus(transport, call, kind, key);
      const status = await pollWhilePending(transport, waiting, call, { kind, key, status: current });
      return status.kind === 'unrecorded' ? null : certainOutcome(status);
    },

    wake: waiting.wake,
    close: transport.close,
  };
}

const requestStatus = (
  transport: AcquirerTransport,
  call: CallContext,
  kind: OperationKind,
  key: string,
): Promise<OperationStatus> =>
  transport.request(call, kind, 'status', {
    method: 'GET',
    path: `/v1/operations?idempotency_key=${encodeURIComponent(key)}`,
    timeoutMs: statusTimeoutMs,
  });

/** Requests the status again while an authorization is pending. Throws where the call has no time left. */
async function pollWhilePending(
  transport: AcquirerTransport,
  waiting: WakeableSleeps,
  call: CallContext,
  { kind, key, status: first }: { kind: OperationKind; key: string; status: OperationStatus },
): Promise<OperationStatus> {
  let status = first;
  for (let polls = 1; status.kind === 'pending'; polls += 1) {
    const delayMs = exponentialBackoffMs(polls, pollBackoff);
    if (call.deadline - Date.now() < delayMs + timeLeftMinMs) throw acquirerUnavailable(new Error('still pending'));
    await waiting.sleep(key, delayMs, call.signal);
    call.signal.throwIfAborted();
    status = await requestStatus(transport, call, kind, key);
  }
  return status;
}
