import { IdentityErrorReason } from '@armature/proto/identity/v1/contract.ts';
import { RpcError, rpcError } from '@armature/runtime';
import { overloaded } from '@armature/runtime/errors';

/** `field` is where the request has the password; `rule` is what is wrong with it. */
export const passwordCommon = (field: string, rule: string) =>
  new RpcError('INVALID_ARGUMENT', IdentityErrorReason.PASSWORD_COMMON, `the password ${rule}`, {
    details: { fieldViolations: [{ field, description: rule, reason: 'password_common' }] },
  });

/** Not stored as the response of its request id: the next attempt may be right. */
export const passwordWrong = (field: 'current_password' | 'password') =>
  rpcError('PERMISSION_DENIED', IdentityErrorReason.PASSWORD_WRONG, `${field} is wrong`);

/** Not stored as the response of its request id: the same request may be made again at that time. */
export const attemptTooSoon = (retryDelayMs: number) =>
  new RpcError(
    'RESOURCE_EXHAUSTED',
    IdentityErrorReason.ATTEMPT_TOO_SOON,
    `too many failed attempts: the next one is possible in ${Math.ceil(retryDelayMs / 1_000)} s`,
    { details: { retryDelayMs: Math.ceil(retryDelayMs) } },
  );

/**
 * Tells a client to have the person sign in again, as `insufficient_user_authentication` of RFC 9470 does over HTTP.
 * Not stored as the response of its request id: the same request succeeds after the sign-in.
 */
export const signInTooOld = (maxAgeSeconds: number) =>
  rpcError(
    'UNAUTHENTICATED',
    IdentityErrorReason.SIGN_IN_TOO_OLD,
    `this needs a sign-in of the last ${maxAgeSeconds} s: sign in again (authorization request with max_age=${maxAgeSeconds} or prompt=login)`,
    { max_age_seconds: String(maxAgeSeconds) },
  );

/** Says the same of a token that is forged, used, expired or meant for something else. */
export const tokenInvalid = () =>
  rpcError('FAILED_PRECONDITION', IdentityErrorReason.TOKEN_INVALID, 'the token is invalid, used or expired');

export const userNotFound = (userId: string) =>
  rpcError('NOT_FOUND', IdentityErrorReason.USER_NOT_FOUND, 'no such user', { user_id: userId });

export const userClosed = (userId: string) =>
  rpcError('FAILED_PRECONDITION', IdentityErrorReason.USER_CLOSED, 'the account is closed', { user_id: userId });

export const serviceAccountExists = (accountId: string) =>
  rpcError('ALREADY_EXISTS', IdentityErrorReason.SERVICE_ACCOUNT_EXISTS, 'the id is taken', { account_id: accountId });

export const serviceAccountNotFound = (accountId: string) =>
  rpcError('NOT_FOUND', IdentityErrorReason.SERVICE_ACCOUNT_NOT_FOUND, 'no such service account', {
    account_id: accountId,
  });

export const keyInvalid = (why: string) =>
  new RpcError('INVALID_ARGUMENT', IdentityErrorReason.KEY_INVALID, `public_jwk ${why}`, {
    details: { fieldViolations: [{ field: 'public_jwk', description: why, reason: 'key_invalid' }] },
  });

export const signingKeyNotFound = (kid: string) =>
  rpcError('NOT_FOUND', IdentityErrorReason.SIGNING_KEY_NOT_FOUND, 'no such signing key; was it revoked before?', {
    kid,
  });

export const sessionNotFound = (sessionId: string) =>
  rpcError('NOT_FOUND', IdentityErrorReason.SESSION_NOT_FOUND, 'no such session; has it ended?', {
    session_id: sessionId,
  });

/** More passwords are being checked than this machine can bear. */
export const passwordsBusy = () => overloaded('identity.passwords', 'too many password checks are in progress');
