import type { CaptureRule, ReturnRule, WebhookRule } from './cards.ts';
import type { Charge, ChargeStatus, Decision } from './charge.ts';

export type OperationKind =
  | 'authorization'
  | 'capture'
  | 'void'
  | 'refund'
  | 'settlement'
  | 'expiration'
  | 'cancellation';

/** An operation, as in responses and in the log. `charge` is the charge right after it. */
export type Operation = {
  operation_id: string;
  /** Null for a settlement and an expiration, which no caller asked for. */
  idempotency_key: string | null;
  kind: OperationKind;
  /** `refused` goes with `error`; `cancelled` belongs to a cancellation, which has no charge. */
  status: ChargeStatus | 'refused' | 'cancelled';
  charge_id: string | null;
  order_reference: string | null;
  amount_minor: number | null;
  currency_code: string | null;
  decline_code: string | null;
  error: { code: string; message: string } | null;
  created_at: string;
  charge: Charge | null;
  /** Of a settlement or an expiration: the key of the authorization that it decides or ends. */
  authorization_key?: string;
};

/** A record of the operations log: the operation, and what a repeat of its request needs. */
export type OperationRecord = {
  request_hash: string | null;
  http_status: number;
  capture_rule: CaptureRule;
  return_rule?: ReturnRule | undefined;
  webhook_rule?: WebhookRule | undefined;
  operation: Operation;
};

/** A token that the acquirer has issued, the customer it belongs to, and the test card it stands for. */
export type MethodRecord = { payment_method: string; customer_reference: string; card: string };

/** A first attempt with a test card that fails once. It is not an operation, so it has its own log. */
export type AttemptRecord = { idempotency_key: string; request_hash: string };

/** The body of the response to the request that made this record: the same bytes for each repeat. */
export function responseBody({ operation }: OperationRecord): object {
  return operation.status === 'refused' ? { error: operation.error } : operation;
}

/** A partial refund leaves the charge `captured`, but the operation is `refunded`. */
const effects: Partial<Record<OperationKind, ChargeStatus>> = { refund: 'refunded' };

/** An operation on a charge that exists, as it was decided. */
export function decided(
  kind: OperationKind,
  before: Charge,
  decision: Decision,
  facts: {
    operation_id: string;
    idempotency_key: string | null;
    amount_minor: number;
    created_at: string;
    authorization_key?: string | null;
  },
): Operation {
  const charge = decision.charge ?? before;
  const refusal = decision.refusal;
  return {
    operation_id: facts.operation_id,
    idempotency_key: facts.idempotency_key,
    kind,
    status: refusal ? 'refused' : (effects[kind] ?? charge.status),
    charge_id: charge.charge_id,
    order_reference: charge.order_reference,
    amount_minor: facts.amount_minor,
    currency_code: charge.currency_code,
    decline_code: charge.decline_code,
    error: refusal ? { code: refusal.code, message: refusal.message } : null,
    created_at: facts.created_at,
    charge,
    ...(facts.authorization_key ? { authorization_key: facts.authorization_key } : {}),
  };
}

/** The operation that cancels a key. */
export function cancelled(facts: { operation_id: string; idempotency_key: string; created_at: string }): Operation {
  return {
    operation_id: facts.operation_id,
    idempotency_key: facts.idempotency_key,
    kind: 'cancellation',
    status: 'cancelled',
    charge_id: null,
    order_reference: null,
    amount_minor: null,
    currency_code: null,
    decline_code: null,
    error: null,
    created_at: facts.created_at,
    charge: null,
  };
}
