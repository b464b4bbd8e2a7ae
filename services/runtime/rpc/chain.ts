import type { MethodContract } from '@armature/proto/contract.ts';
import type { Counter } from 'prom-client';
import type { Database } from '../db/database.ts';
import { type AuthenticateOptions, authenticate } from './authenticate.ts';
import { authorize, type Decide } from './authorize.ts';
import type { Interceptor } from './call.ts';
import { deadline } from './deadline.ts';
import { decode } from './decode.ts';
import { errorBoundary } from './error-boundary.ts';
import { idempotency } from './idempotency.ts';
import { logging } from './logging.ts';
import { validate } from './validate.ts';

export interface ServerChainParts {
  admission: Interceptor;
  metrics: (method: MethodContract) => Interceptor;
  tracing: Interceptor;
  authentication: AuthenticateOptions;
  decide: Decide;
  decisions: Counter<'permission' | 'decision'>;
  db: Database;
  domain: string;
}

/** What every call goes through on its way to a handler, outermost first. */
export const serverChain = (parts: ServerChainParts, method: MethodContract): readonly Interceptor[] => [
  parts.admission,
  parts.metrics(method),
  parts.tracing,
  logging,
  errorBoundary,
  deadline,
  authenticate(parts.authentication),
  decode(method),
  authorize(method, parts.decide, parts.decisions),
  validate(method),
  ...(method.idempotency ? [idempotency(parts.db, parts.domain)] : []),
];
