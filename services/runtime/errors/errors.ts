import type { FieldViolation } from '@armature/proto/contract.ts';

/**
 * Names of gRPC status codes, without OK, because an error never has that. They are listed here, because declarations
 * of the published clients must not need those of grpc-js, which need those of Node.
 */
export type Code =
  | 'CANCELLED'
  | 'UNKNOWN'
  | 'INVALID_ARGUMENT'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'OUT_OF_RANGE'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'DATA_LOSS'
  | 'UNAUTHENTICATED';

export interface RpcErrorDetails {
  fieldViolations?: readonly FieldViolation[] | undefined;
  /** How long to wait before a retry, milliseconds. */
  retryDelayMs?: number | undefined;
  /** The limit that was exceeded: its subject and a description. */
  quota?: { subject: string; description: string } | undefined;
}

/**
 * The one error that crosses process boundaries. `code`, `reason`, `message` and `metadata` reach the caller; `cause`
 * is logged here and never sent.
 */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: Code;
  /** The contract's reason, such as "STOCK_INSUFFICIENT". */
  readonly reason: string;
  /** The service that defined the reason: "inventory.armature.local". Empty: the service that responds. */
  readonly domain: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly details: RpcErrorDetails;
  /** The method that responded with this error, when it came over the wire. */
  readonly from: string;

  constructor(
    code: Code,
    reason: string,
    message: string,
    options: {
      domain?: string | undefined;
      metadata?: Record<string, string> | undefined;
      details?: RpcErrorDetails | undefined;
      cause?: unknown;
      from?: string | undefined;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.reason = reason;
    this.domain = options.domain ?? '';
    this.metadata = options.metadata ?? {};
    this.details = options.details ?? {};
    this.from = options.from ?? '';
  }
}

/** Makes the error for a violated rule of a service. Each service's errors.ts has one constructor per reason. */
export function rpcError(code: Code, reason: string, message: string, metadata: Record<string, string> = {}): RpcError {
  return new RpcError(code, reason, message, { metadata });
}

/** Reasons of the runtime itself, as in armature/runtime/v1/errors.proto. */
export const runtimeDomain = 'runtime.armature.local';
function runtimeError(
  code: Code,
  reason: string,
  message: string,
  more: { metadata?: Record<string, string>; details?: RpcErrorDetails; cause?: unknown } = {},
) {
  return new RpcError(code, reason, message, { ...more, domain: runtimeDomain });
}

export const messageMalformed = (cause: unknown) =>
  runtimeError('INVALID_ARGUMENT', 'MESSAGE_MALFORMED', 'the request is not a message of the declared type', { cause });

/** Makes the error for a request that has no message, or more than its method takes; gRPC defines its code. */
export const messagesWrong = (found: string) =>
  runtimeError('UNIMPLEMENTED', 'MESSAGE_MALFORMED', `the method takes one message, and the request has ${found}`);

export const fieldsInvalid = (fieldViolations: readonly FieldViolation[]) =>
  runtimeError(
    'INVALID_ARGUMENT',
    'FIELDS_INVALID',
    fieldViolations.map((violation) => `${violation.field} ${violation.description}`).join('; '),
    { details: { fieldViolations } },
  );

export const requestIdReused = (field: string) =>
  runtimeError('INVALID_ARGUMENT', 'REQUEST_ID_REUSED', `${field} was used before with another request`, {
    details: { fieldViolations: [{ field, description: 'was used before with another request', reason: 'reused' }] },
  });

/** The request was carried out, and its response erased with the account of the person whom it was about. */
export const responseErased = () =>
  runtimeError(
    'FAILED_PRECONDITION',
    'RESPONSE_ERASED',
    'the response to this request was erased; do not send it again',
  );

/** Makes the same error whatever was wrong with the credentials; the cause is for the log. */
export const credentialsInvalid = (cause: string) =>
  runtimeError('UNAUTHENTICATED', 'CREDENTIALS_INVALID', 'no valid credentials', { cause: new Error(cause) });

export const permissionDenied = (permission: string) =>
  runtimeError('PERMISSION_DENIED', 'PERMISSION_DENIED', `${permission} is not allowed`, { metadata: { permission } });

/** Makes the error for a call that the workload may make only with the access token of a user or program. */
export const tokenMissing = (permission: string) =>
  runtimeError(
    'UNAUTHENTICATED',
    'TOKEN_MISSING',
    `${permission} needs an access token: send it as "authorization: Bearer <token>"`,
    { metadata: { permission } },
  );

/** Makes the error for a token whose scope does not name the permission. */
export const scopeInsufficient = (permission: string) =>
  runtimeError('PERMISSION_DENIED', 'SCOPE_INSUFFICIENT', `the scope of the token does not include ${permission}`, {
    metadata: { permission },
  });

/** Makes the error for a change of an account whose rights the caller does not administer. It does not name them. */
export const targetNotAdministered = (permission: string) =>
  runtimeError(
    'PERMISSION_DENIED',
    'TARGET_NOT_ADMINISTERED',
    `${permission} is not allowed for this account: it has permissions that the caller does not administer`,
    { metadata: { permission } },
  );

export const policyUnavailable = () =>
  runtimeError('UNAVAILABLE', 'POLICY_UNAVAILABLE', 'authorization policy not loaded yet', {
    details: { retryDelayMs: 1000 },
  });

export const deadlineExceeded = () =>
  runtimeError('DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED', 'the deadline passed before the response was ready');

export const cancelled = () => runtimeError('CANCELLED', 'CANCELLED', 'call cancelled by the client');

export const overloaded = (subject: string, description: string) =>
  runtimeError('RESOURCE_EXHAUSTED', 'OVERLOADED', description, {
    details: { retryDelayMs: 200, quota: { subject, description } },
  });

export const draining = () =>
  runtimeError('UNAVAILABLE', 'DRAINING', 'the service is stopping', { details: { retryDelayMs: 100 } });

export const contention = (cause: unknown) =>
  runtimeError('ABORTED', 'CONTENTION', 'another transaction was in the way', {
    cause,
    details: { retryDelayMs: 100 },
  });

export const dependencyUnavailable = (name: string, cause: unknown) =>
  runtimeError('UNAVAILABLE', 'DEPENDENCY_UNAVAILABLE', `${name} does not respond`, {
    cause,
    metadata: { dependency: name },
    details: { retryDelayMs: 500 },
  });

/** Makes the error for tokens that cannot be verified, because the keys of their issuer are missing. */
export const keysUnavailable = () =>
  runtimeError('UNAVAILABLE', 'DEPENDENCY_UNAVAILABLE', 'keys that verify access tokens not loaded yet', {
    metadata: { dependency: 'identity' },
    details: { retryDelayMs: 1000 },
  });

export const pageTokenInvalid = () =>
  runtimeError('INVALID_ARGUMENT', 'PAGE_TOKEN_INVALID', 'page_token is not one that this method gave for this query', {
    details: {
      fieldViolations: [{ field: 'page_token', description: 'was not given for this query', reason: 'page_token' }],
    },
  });

export const fieldMaskInvalid = (path: string) =>
  runtimeError('INVALID_ARGUMENT', 'FIELD_MASK_INVALID', `update_mask names ${path}, which cannot be changed`, {
    details: {
      fieldViolations: [
        { field: 'update_mask', description: `names ${path}, which cannot be changed`, reason: 'mask' },
      ],
    },
  });

/**
 * Makes the error for anything that is not an RpcError: the caller gets only the id under which the cause is logged.
 */
export const internal = (correlationId: string, cause: unknown) =>
  runtimeError('INTERNAL', 'INTERNAL', 'internal error', { cause, metadata: { correlation_id: correlationId } });
