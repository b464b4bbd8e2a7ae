import type { MethodContract } from '@armature/proto/contract.ts';
import type { Counter } from 'prom-client';
import { type AuthenticateOptions, authenticate } from '../authz/authenticate.ts';
import { authorize, type Decide } from '../authz/authorize.ts';
import type { Denials } from '../authz/denials.ts';
import type { Interceptor } from '../context/call-context.ts';
import { deadline } from '../context/deadline.ts';
import type { Database } from '../db/database.ts';
import { idempotency } from '../idempotency/idempotency.ts';
import type { RequestHasher } from '../idempotency/request-hash.ts';
import { decode } from './decode.ts';
import { errorBoundary } from './error-boundary.ts';
import { logging } from './logging.ts';
import { receive } from './server.ts';
import { validate } from './validate.ts';

export interface ServerChainParts {
  admission: Interceptor;
  metrics: (method: MethodContract) => Interceptor;
  tracing: Interceptor;
  authentication: AuthenticateOptions;
  decide: Decide;
  decisions: Counter<'permission' | 'decision'>;
  denials: Pick<Denials, 'denied'>;
  db: Database;
  /** Hashes the requests of keyed methods; not given: without a key. */
  requestHash?: RequestHasher;
  domain: string;
}

/**
 * The interceptors of every call to a handler, outermost first. They run when the headers have arrived; the message is
 * read when the call is authorized.
 */
export const serverChain = (parts: ServerChainParts, method: MethodContract): readonly Interceptor[] => [
  parts.admission,
  parts.metrics(method),
  parts.tracing,
  logging,
  errorBoundary,
  deadline,
  authenticate(parts.authentication),
  authorize(method, parts.decide, parts.decisions, parts.denials, {
    read: [receive, decode(method, parts.requestHash)],
    commit: (call) => parts.db.transaction(call, async () => {}),
  }),
  validate(method),
  ...(method.idempotency ? [idempotency(parts.db, parts.domain)] : []),
];
