export { admission } from './admission.ts';
export { serverChain } from './chain.ts';
export { decode } from './decode.ts';
export { rpcMetrics } from './metrics.ts';
export {
  type Implementation,
  implement,
  metadataBytesOf,
  peerOf,
  type RpcServer,
  receive,
  startServer,
} from './server.ts';
export { serverLimits } from './server-limits.ts';
