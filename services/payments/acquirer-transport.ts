import { type CallContext, inTransaction } from '@armature/runtime';
import { syncPoint } from '@armature/runtime/sync';
import { Counter, Histogram, latencyBuckets, type Registry } from '@armature/runtime/telemetry';
import { type HttpRequest, type HttpResponse, httpClient } from './acquirer-http.ts';
import { acquirerUnavailable } from './errors.ts';
import { type OperationStatus, readOperationStatus, type UnknownOutcome } from './operation-status.ts';
import type { OperationKind } from './payment.ts';

export interface TransportOptions {
  url: string;
  timeoutMs: number;
  connectionsMax: number;
  registry: Registry;
}

export type AcquirerRequest = Omit<HttpRequest, 'signal'>;

/** Single HTTP requests to the acquirer, within the deadline of the call. */
export interface AcquirerTransport {
  /** Sends a request about an operation, and reads the status from the response. `name` labels metrics and logs. */
  request(call: CallContext, kind: OperationKind, name: string, request: AcquirerRequest): Promise<OperationStatus>;
  /** Sends a GET. Throws ACQUIRER_UNAVAILABLE without a complete response. */
  get(call: CallContext, path: string, limits?: { bytesMax: number }): Promise<HttpResponse>;
  /** Sends a GET and parses the body. Throws ACQUIRER_UNAVAILABLE where the response is not complete and valid. */
  read<T>(call: CallContext, path: string, parse: (body: unknown) => T | null): Promise<T>;
  close(): void;
}

/** No request is sent with less time left than this. */
export const timeLeftMinMs = 20;
/** A page has at most 500 operations of about 1 KiB. */
const pageBytesMax = 4 * 1024 * 1024;

export function acquirerTransport(options: TransportOptions): AcquirerTransport {
  const http = httpClient(options.url, options.connectionsMax);
  const metrics = acquirerMetrics(options.registry);

  const send = async (call: CallContext, request: AcquirerRequest): Promise<HttpResponse | UnknownOutcome> => {
    if (request.timeoutMs < timeLeftMinMs)
      return { kind: 'unknown', cause: new Error('no time is left for a request') };
    try {
      return await http.send({ ...request, signal: call.signal });
    } catch (error) {
      return { kind: 'unknown', cause: error instanceof Error ? error : new Error(String(error)) };
    }
  };

  const get = async (call: CallContext, path: string, limits?: { bytesMax: number }): Promise<HttpResponse> => {
    const response = await send(call, { method: 'GET', path, timeoutMs: options.timeoutMs, ...limits });
    if ('status' in response) return response;
    throw acquirerUnavailable(response.cause);
  };

  return {
    async request(call, kind, name, request) {
      if (inTransaction(call)) throw new Error(`${name}: a request to the acquirer must not be sent in a transaction`);
      const atSyncPoint = syncPoint(call);
      if (atSyncPoint) await atSyncPoint(`call acquirer ${name}`);
      const timeoutMs = Math.min(request.timeoutMs, call.deadline - Date.now());
      const stop = metrics.seconds.startTimer({ operation: name });
      const response = await send(call, { ...request, timeoutMs });
      stop();
      const status = 'status' in response ? readOperationStatus(kind, response) : response;
      metrics.responses.inc({ operation: name, outcome: status.kind });
      if (status.kind === 'unknown') {
        call.log.warn({ err: status.cause, operation: name }, 'the outcome at the acquirer is unknown');
      }
      return status;
    },

    get,

    async read(call, path, parse) {
      const response = await get(call, path, { bytesMax: pageBytesMax });
      const parsed = response.status === 200 ? parse(response.body) : null;
      if (parsed) return parsed;
      throw acquirerUnavailable(new Error(`GET ${path} returned status ${response.status} or an invalid body`));
    },

    close: http.close,
  };
}

function acquirerMetrics(registry: Registry) {
  return {
    responses: new Counter({
      name: 'armature_acquirer_responses_total',
      help: 'Responses of the acquirer by operation and outcome; "unknown" is no usable response',
      labelNames: ['operation', 'outcome'],
      registers: [registry],
    }),
    seconds: new Histogram({
      name: 'armature_acquirer_seconds',
      help: 'Duration of requests to the acquirer, including those without a response',
      labelNames: ['operation'],
      buckets: latencyBuckets,
      registers: [registry],
    }),
  };
}
