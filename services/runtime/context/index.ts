export { background } from './background.ts';
export {
  type CallContext,
  type Caller,
  type Handler,
  type Interceptor,
  openCall,
  type Reply,
  type Subject,
  silentLog,
  type User,
} from './call-context.ts';
export { isInScope, type TokenScope, tokenScopeOf } from './token-scope.ts';
export { childTrace, traceparent } from './trace.ts';
