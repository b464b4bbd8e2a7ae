import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';

/** The status and the JSON body of a response. */
export interface HttpResponse {
  status: number;
  body: unknown;
}

export interface HttpRequest {
  method: 'GET' | 'POST';
  path: string;
  key?: string;
  body?: object;
  timeoutMs: number;
  signal: AbortSignal;
  /** The largest response body; `responseBytesMax` where it is not set. Pages are larger. */
  bytesMax?: number;
}

/** Sends one request. Rejects without a complete response in time: the outcome of the request is then unknown. */
export interface HttpClient {
  send(request: HttpRequest): Promise<HttpResponse>;
  close(): void;
}

const responseBytesMax = 64 * 1024;

/** Keeps connections open, at most `connectionsMax`. */
export function httpClient(baseUrl: string, connectionsMax: number): HttpClient {
  const base = new URL(baseUrl);
  const secure = base.protocol === 'https:';
  const options = {
    keepAlive: true,
    maxSockets: connectionsMax,
    maxFreeSockets: connectionsMax,
    scheduling: 'lifo',
  } as const;
  const agent = secure ? new HttpsAgent(options) : new HttpAgent(options);
  const open = secure ? httpsRequest : httpRequest;

  const attempt = (request: HttpRequest): Promise<HttpResponse> =>
    new Promise((resolve, reject) => {
      const { method, path, key, signal, timeoutMs } = request;
      const text = request.body === undefined ? undefined : JSON.stringify(request.body);
      const headers: Record<string, string> = { accept: 'application/json' };
      if (key !== undefined) headers['idempotency-key'] = key;
      if (text !== undefined) {
        headers['content-type'] = 'application/json';
        headers['content-length'] = String(Buffer.byteLength(text));
      }
      const sent = open(new URL(path, base), { method, headers, agent, signal });
      const timer = setTimeout(() => sent.destroy(new Error(`no response within ${timeoutMs} ms`)), timeoutMs);
      const fail = (error: Error) => {
        clearTimeout(timer);
        reject(staleConnection(sent, error) ? new StaleConnection(error) : error);
      };
      sent.on('error', fail);
      sent.once('response', (incoming) => {
        readResponse(incoming, sent, request.bytesMax ?? responseBytesMax).then((response) => {
          clearTimeout(timer);
          resolve(response);
        }, fail);
      });
      sent.end(text);
    });

  return {
    async send(request) {
      try {
        return await attempt(request);
      } catch (error) {
        // The server closed an idle connection at the moment of its reuse. The idempotency key makes a second attempt
        // safe, and a new connection shows whether the server has restarted or is down.
        if (error instanceof StaleConnection) return attempt(request);
        throw error;
      }
    },
    close: () => agent.destroy(),
  };
}

class StaleConnection extends Error {
  constructor(cause: Error) {
    super('the connection was closed while it was idle', { cause });
  }
}

function staleConnection(request: ClientRequest, error: Error): boolean {
  return request.reusedSocket && 'code' in error && error.code === 'ECONNRESET';
}

async function readResponse(
  response: IncomingMessage,
  request: ClientRequest,
  bytesMax: number,
): Promise<HttpResponse> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bytesMax) {
      const error = new Error(`the response has more than ${bytesMax} bytes`);
      request.destroy(error);
      throw error;
    }
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  try {
    return { status: response.statusCode ?? 0, body: JSON.parse(text) };
  } catch (cause) {
    throw new Error(`the response with status ${response.statusCode} is not JSON`, { cause });
  }
}
