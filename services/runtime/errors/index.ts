export {
  type Code,
  contention,
  fieldsInvalid,
  overloaded,
  pageTokenInvalid,
  policyUnavailable,
  RpcError,
  type RpcErrorDetails,
  requestIdReused,
  rpcError,
} from './errors.ts';
export { decodeStatus } from './status.ts';
