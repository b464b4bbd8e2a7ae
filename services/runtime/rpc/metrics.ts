import type { MethodContract } from '@armature/proto/contract.ts';
import type { Interceptor, Reply } from '../context/call-context.ts';
import { RpcError } from '../errors/errors.ts';
import { Counter, Histogram, latencyBuckets, type Registry } from '../telemetry/metrics.ts';

const labelNames = ['grpc_service', 'grpc_method', 'grpc_type'] as const;

/**
 * Counts and times calls under the names that public gRPC dashboards expect. Made once per side. The labels of a method
 * are bound once, so that a call costs three increments and no look-up.
 */
export function rpcMetrics(registry: Registry, side: 'server' | 'client'): (method: MethodContract) => Interceptor {
  const started = new Counter({
    name: `grpc_${side}_started_total`,
    help: `RPCs started on the ${side}`,
    labelNames,
    registers: [registry],
  });
  const handled = new Counter({
    name: `grpc_${side}_handled_total`,
    help: `RPCs completed on the ${side}, by status code`,
    labelNames: [...labelNames, 'grpc_code'],
    registers: [registry],
  });
  const handling = new Histogram({
    name: `grpc_${side}_handling_seconds`,
    help: `Time until an RPC was completed on the ${side}`,
    labelNames,
    buckets: latencyBuckets,
    registers: [registry],
  });
  return (method) => {
    const labels = { grpc_service: method.service, grpc_method: method.name, grpc_type: method.kind };
    const startedHere = started.labels(labels);
    const handlingHere = handling.labels(labels);
    const byCode = new Map<string, Counter.Internal>();
    const finish = (code: string, since: number) => {
      let counter = byCode.get(code);
      if (!counter) {
        counter = handled.labels({ ...labels, grpc_code: code });
        byCode.set(code, counter);
      }
      counter.inc();
      handlingHere.observe((performance.now() - since) / 1000);
    };
    return (next) => async (call) => {
      const since = performance.now();
      startedHere.inc();
      try {
        const reply = await next(call);
        if (isIterable(reply)) return observed(reply, (code) => finish(code, since));
        finish('OK', since);
        return reply;
      } catch (error) {
        finish(codeOf(error), since);
        throw error;
      }
    };
  };
}

const codeOf = (error: unknown): string => (error instanceof RpcError ? error.code : 'UNKNOWN');

const isIterable = (reply: Reply): reply is AsyncIterable<unknown> =>
  typeof reply === 'object' && reply !== null && Symbol.asyncIterator in reply;

/** A client's stream ends when its reader is done, not when it was opened. */
async function* observed(source: AsyncIterable<unknown>, finish: (code: string) => void): AsyncGenerator<unknown> {
  let code = 'CANCELLED';
  try {
    yield* source;
    code = 'OK';
  } catch (error) {
    code = codeOf(error);
    throw error;
  } finally {
    finish(code);
  }
}
