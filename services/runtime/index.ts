export { setDataSubject } from './authz/authorization.ts';
export { ownsOrCanAccessAny } from './authz/authorize.ts';
export * from './config/config.ts';
export type { Background, PeriodicJob } from './context/background.ts';
export {
  type CallContext,
  type Caller,
  principalOf,
  type Subject,
  subjectOf,
  type User,
} from './context/call-context.ts';
export type { Database } from './db/database.ts';
export { isDuplicateKey, RestartTransaction } from './db/errno.ts';
export { inTransaction } from './db/open-transaction.ts';
export { type Param, type Sql, type SqlReader, type Tx, utcDate } from './db/tx.ts';
export { fieldMaskInvalid, RpcError, rpcError } from './errors/errors.ts';
export { newId } from './id/id.ts';
export { idempotencyKeyOf } from './idempotency/key.ts';
export { runIdempotent } from './idempotency/run-idempotent.ts';
export {
  type BaselineHandler,
  type BaselineSource,
  type Consumer,
  consume,
  onBaseline,
  tableBaselines,
} from './messaging/messaging.ts';
export { emit } from './messaging/outbox.ts';
export type { Client } from './rpc/client.ts';
export { closePage, openPage, type Page } from './rpc/paging.ts';
export { type Implementation, implement } from './rpc/server.ts';
export * from './saga/engine.ts';
export { run } from './service/run.ts';
export type { ServiceComponents, ServiceDependencies } from './service/service.ts';
export { type Watchers, watchers } from './service/watchers.ts';
export { Counter, Gauge, Histogram, type Registry } from './telemetry/metrics.ts';
export * from './time/index.ts';
