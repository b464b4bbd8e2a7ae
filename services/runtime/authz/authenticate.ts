import type { CallContext, Interceptor } from '../context/call-context.ts';
import type { VerifiedToken } from '../credentials/tokens.ts';
import { credentialsInvalid } from '../errors/errors.ts';

export interface AuthenticateOptions {
  /** Returns the Casbin subject of the workload that opened the connection; null without a valid certificate. */
  workloadOf(call: CallContext): string | null;
  /** Returns without a promise for a token that it has verified before. Throws UNAUTHENTICATED. */
  verify(token: string): VerifiedToken | Promise<VerifiedToken>;
}

/** Sets the caller of a call: the workload from its certificate and, when there is a token, the user. */
export function authenticate({ workloadOf, verify }: AuthenticateOptions): Interceptor {
  return (next) => (call) => {
    const workload = workloadOf(call);
    if (!workload) return Promise.reject(credentialsInvalid('no valid client certificate'));
    const authorization = call.header('authorization');
    if (authorization === undefined) {
      call.caller = { workload, user: null };
      return next(call);
    }
    const token = /^Bearer ([\w.~+/-]+=*)$/i.exec(authorization)?.[1];
    if (!token) return Promise.reject(credentialsInvalid('authorization is not a bearer token'));
    const proceed = (verified: VerifiedToken) => {
      const { kind, subject, scope, signedInAtMs } = verified;
      call.caller = { workload, user: { kind, subject, token, scope, signedInAtMs } };
      return next(call);
    };
    try {
      const verified = verify(token);
      return verified instanceof Promise ? verified.then(proceed) : proceed(verified);
    } catch (error) {
      return Promise.reject(error);
    }
  };
}
