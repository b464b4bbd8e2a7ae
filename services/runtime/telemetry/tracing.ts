import type { HrTime } from '@opentelemetry/api';
import type { BatchSpanProcessor, ReadableSpan } from '@opentelemetry/sdk-trace';
import { type CallContext, type CallKind, type Interceptor, subjectOf } from '../context/call-context.ts';
import { RpcError } from '../errors/errors.ts';
import { withTimeout } from '../time/timeout.ts';

export interface Tracing {
  /** Reports each call as a span; does nothing without an endpoint. */
  readonly interceptor: Interceptor;
  /** Sends the queued spans, for at most a second. */
  stop(): Promise<void>;
}

const off: Tracing = { interceptor: (next) => next, stop: async () => {} };
const stopTimeoutMs = 1_000;

/** OpenTelemetry's SpanKind and StatusCode; the SDK itself is loaded only where there is an endpoint. */
const spanKinds: Record<CallKind, number> = { background: 0, server: 1, client: 2, consumer: 4 };
const statusCodes = { ok: 1, error: 2 };

/**
 * Reports calls to an OTLP endpoint, such as http://127.0.0.1:4318. Trace context is always propagated; this only
 * exports spans. Spans beyond the queue are dropped; calls never wait for it.
 */
export async function startTracing(service: string, endpoint: string): Promise<Tracing> {
  if (!endpoint) return off;
  const [{ BatchSpanProcessor }, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ]);
  const exporter = new OTLPTraceExporter({ url: new URL('/v1/traces', endpoint).href, timeoutMillis: 5_000 });
  const processor = new BatchSpanProcessor({ exporter, maxQueueSize: 4_096, scheduledDelayMillis: 1_000 });
  const resource = resourceFromAttributes({ 'service.name': service, 'service.namespace': 'armature' });
  return {
    interceptor: reportTo(processor, resource),
    async stop() {
      // Spans that cannot be sent are lost; they neither fail nor delay the stop of the service.
      await withTimeout(stopTimeoutMs, processor.shutdown(), 'the last export of spans').catch(() => {});
    },
  };
}

function reportTo(processor: BatchSpanProcessor, resource: ReadableSpan['resource']): Interceptor {
  return (next) => async (call) => {
    if (!call.trace.sampled) return next(call);
    const [startTime, since] = [hrTime(Date.now()), performance.now()];
    const report = (code: string) => {
      const durationMs = performance.now() - since;
      processor.onEnd(spanOf(call, code, startTime, durationMs, resource));
    };
    try {
      const reply = await next(call);
      report('OK');
      return reply;
    } catch (error) {
      report(error instanceof RpcError ? error.code : 'UNKNOWN');
      throw error;
    }
  };
}

function spanOf(
  call: CallContext,
  code: string,
  startTime: HrTime,
  durationMs: number,
  resource: ReadableSpan['resource'],
): ReadableSpan {
  const { traceId, spanId, parentId } = call.trace;
  const context = (id: string) => ({ traceId, spanId: id, traceFlags: 1 });
  return {
    name: call.name.replace(/^\//, ''),
    kind: spanKinds[call.kind],
    spanContext: () => context(spanId),
    ...(parentId ? { parentSpanContext: context(parentId) } : {}),
    startTime,
    endTime: hrTime(startTime[0] * 1_000 + startTime[1] / 1e6 + durationMs),
    duration: hrTime(durationMs),
    status: { code: code === 'OK' ? statusCodes.ok : statusCodes.error },
    // Names of methods, codes and principals only; never the content of a message.
    attributes: {
      'rpc.system': call.kind === 'consumer' ? 'amqp' : 'grpc',
      'rpc.grpc.status': code,
      'armature.call': call.id,
      ...(call.caller.workload ? { 'armature.workload': call.caller.workload } : {}),
      ...(call.caller.user ? { 'enduser.id': subjectOf(call.caller.user) } : {}),
    },
    links: [],
    events: [],
    ended: true,
    resource,
    instrumentationScope: { name: 'armature' },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

/** Milliseconds as seconds and nanoseconds. */
function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1_000);
  return [seconds, Math.round((ms - seconds * 1_000) * 1e6)];
}
