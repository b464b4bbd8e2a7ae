import { randomBytes } from 'node:crypto';

/** W3C trace context: the trace of a call and its span (https://www.w3.org/TR/trace-context/). */
export interface TraceContext {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits: this call's own span. */
  readonly spanId: string;
  /** The parent span; empty at a root. */
  readonly parentId: string;
  readonly sampled: boolean;
}

const pattern = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

// Random ids are cut from a pool: one system call serves some hundred spans.
let pool = Buffer.alloc(0);
let used = 0;
function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    pool = randomBytes(4096);
    used = 0;
  }
  used += bytes;
  return pool.toString('hex', used - bytes, used);
}

/** Makes a span below the one that `traceparent` names, or a new trace where it names none. */
export function childTrace(traceparent: string | undefined): TraceContext {
  const match = traceparent ? pattern.exec(traceparent) : null;
  if (!match?.[1] || !match[2] || /^0+$/.test(match[1]) || /^0+$/.test(match[2])) {
    return { traceId: randomHex(16), spanId: randomHex(8), parentId: '', sampled: true };
  }
  return {
    traceId: match[1],
    spanId: randomHex(8),
    parentId: match[2],
    sampled: (Number.parseInt(match[3] ?? '00', 16) & 1) === 1,
  };
}

/** The header that passes a span to the next hop. */
export function traceparent(trace: TraceContext): string {
  return `00-${trace.traceId}-${trace.spanId}-${trace.sampled ? '01' : '00'}`;
}
