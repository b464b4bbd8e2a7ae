import { BadRequest, ErrorInfo, QuotaFailure, RetryInfo } from '@armature/proto/google/rpc/error_details.ts';
import { Status } from '@armature/proto/google/rpc/status.ts';
import { status } from '@grpc/grpc-js';
import { type Code, RpcError, type RpcErrorDetails } from './errors.ts';

const prefix = 'type.googleapis.com/google.rpc.';

/** Error messages are cut to this length: a status travels in trailers, whose size is limited. */
const messageMax = 1024;

/** Makes text safe for a status message: grpc-js passes it to encodeURI, which throws on a lone surrogate. */
export function safeText(text: string): string {
  return text.toWellFormed().slice(0, messageMax).toWellFormed();
}

/** Encodes the error as google.rpc.Status, with ErrorInfo and, where they apply, the other details. */
export function encodeStatus(error: RpcError, domain: string): Uint8Array {
  const details = [
    pack('ErrorInfo', ErrorInfo, {
      reason: error.reason,
      domain: error.domain || domain,
      metadata: Object.fromEntries(Object.entries(error.metadata).map(([key, value]) => [key, safeText(value)])),
    }),
  ];
  const { fieldViolations, retryDelayMs, quota } = error.details;
  if (fieldViolations) {
    const violations = fieldViolations.map((violation) => ({ ...violation, field: safeText(violation.field) }));
    details.push(pack('BadRequest', BadRequest, { fieldViolations: violations }));
  }
  if (retryDelayMs !== undefined) {
    const seconds = BigInt(Math.floor(retryDelayMs / 1000));
    details.push(pack('RetryInfo', RetryInfo, { retryDelay: { seconds, nanos: (retryDelayMs % 1000) * 1_000_000 } }));
  }
  if (quota) details.push(pack('QuotaFailure', QuotaFailure, { violations: [quota] }));
  return Status.encode({ code: status[error.code], message: safeText(error.message), details }).finish();
}

function pack<T>(name: string, codec: { encode(message: T): { finish(): Uint8Array } }, message: T) {
  return { typeUrl: prefix + name, value: Buffer.from(codec.encode(message).finish()) };
}

/** Decodes a google.rpc.Status into an error; details of other types are ignored. */
export function decodeStatus(bytes: Uint8Array, from = ''): RpcError {
  const decoded = Status.decode(bytes);
  const code = (status[decoded.code] ?? 'UNKNOWN') as Code;
  let reason = '';
  let domain = '';
  let metadata: Record<string, string> = {};
  const details: RpcErrorDetails = {};
  for (const { typeUrl, value } of decoded.details) {
    if (typeUrl === `${prefix}ErrorInfo`) ({ reason, domain, metadata } = ErrorInfo.decode(value));
    else if (typeUrl === `${prefix}BadRequest`) details.fieldViolations = BadRequest.decode(value).fieldViolations;
    else if (typeUrl === `${prefix}RetryInfo`) {
      const delay = RetryInfo.decode(value).retryDelay;
      if (delay) details.retryDelayMs = Number(delay.seconds) * 1000 + delay.nanos / 1_000_000;
    } else if (typeUrl === `${prefix}QuotaFailure`) {
      const quota = QuotaFailure.decode(value).violations[0];
      if (quota) details.quota = quota;
    }
  }
  return new RpcError(code, reason, decoded.message, { domain, metadata, details, from });
}
