export { type Background, pause, type Sweeper } from './background.ts';
export * from './config.ts';
export type { Database } from './db/database.ts';
export { isDuplicateKey, RestartTransaction } from './db/errno.ts';
export { type Param, type Sql, type Tx, utcDate } from './db/tx.ts';
export { newId } from './id.ts';
export {
  type BaselineHandler,
  type BaselineSource,
  type Consumer,
  consume,
  onBaseline,
  tableBaselines,
} from './messaging/messaging.ts';
export { mayTouch } from './rpc/authorize.ts';
export { type Call, type Caller, principalOf, type Subject, subjectOf, type User } from './rpc/call.ts';
export type { Client } from './rpc/client.ts';
export { fieldMaskInvalid, RpcError, rpcError } from './rpc/errors.ts';
export { closePage, openPage, type Page } from './rpc/paging.ts';
export { type Implementation, implement } from './rpc/server.ts';
export { run } from './run.ts';
export * from './saga/engine.ts';
export type { Built, Parts } from './service.ts';
export { Counter, Gauge, Histogram, type Registry } from './telemetry/metrics.ts';
export { type Watchers, watchers } from './watchers.ts';
