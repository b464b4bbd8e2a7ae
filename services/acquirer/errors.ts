/** An error response. Its body is `{"error": {code, message, field?}}`. */
export class Problem extends Error {
  readonly httpStatus: number;
  readonly code: string;
  readonly field: string | undefined;
  constructor(httpStatus: number, code: string, message: string, field?: string) {
    super(message);
    this.httpStatus = httpStatus;
    this.code = code;
    this.field = field;
  }
}

export const routeUnknown = () => new Problem(404, 'route_unknown', 'no route has this path');
export const methodNotAllowed = (allowed: string) =>
  new Problem(405, 'method_not_allowed', `this path accepts ${allowed} only`);
export const bodyInvalid = () => new Problem(400, 'body_invalid', 'the body must be one JSON object in UTF-8');
export const bodyTooLarge = (limit_bytes: number) =>
  new Problem(413, 'body_too_large', `the body may have at most ${limit_bytes} bytes`);
export const keyInvalid = () =>
  new Problem(400, 'idempotency_key_invalid', 'must be 1 to 200 printable ASCII characters', 'Idempotency-Key');
export const keyReused = () =>
  new Problem(422, 'idempotency_key_reused', 'this key was used for another request', 'Idempotency-Key');
export const operationCancelled = () =>
  new Problem(409, 'operation_cancelled', 'this key was cancelled before it acted and never will act');
export const operationUnknown = () => new Problem(404, 'operation_unknown', 'no operation is recorded under this key');
export const chargeUnknown = () => new Problem(404, 'charge_unknown', 'there is no charge with this id');
export const fieldInvalid = (field: string, rule: string) => new Problem(422, 'field_invalid', rule, field);
export const fieldUnknown = (field: string) =>
  new Problem(422, 'field_unknown', 'this request has no such field', field);
export const paymentMethodUnknown = () =>
  new Problem(422, 'payment_method_unknown', 'is not one of the test cards', 'payment_method');
export const paymentMethodNotOwned = () =>
  new Problem(422, 'payment_method_not_owned', 'belongs to another customer', 'payment_method');
export const cardUnknown = () => new Problem(422, 'field_invalid', 'is not one of the test cards', 'card');
export const cardError = () =>
  new Problem(500, 'processor_error', 'the processor failed before it acted; send the request again');
export const logUnavailable = () =>
  new Problem(503, 'log_unavailable', 'the durable log cannot be written; the outcome is unknown until a restart');
export const overloaded = () => new Problem(503, 'overloaded', 'too many requests are under way; ask again later');
export const internalError = () => new Problem(500, 'internal_error', 'internal error');
