export { background } from './background.ts';
export {
  type Call,
  type Caller,
  type Handler,
  type Interceptor,
  openCall,
  type Reply,
  type Subject,
  silentLog,
  type User,
} from './call.ts';
export { childTrace, traceparent } from './trace.ts';
