import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';

/** What came back: the status and the JSON body. */
export interface HttpAnswer {
  status: number;
  body: unknown;
}

export interface HttpQuestion {
  method: 'GET' | 'POST';
  path: string;
  key?: string;
  body?: object;
  timeoutMs: number;
  signal: AbortSignal;
  /** Larger than a response about one operation may be; for pages. */
  bytesMax?: number;
}

/** Sends one request. Rejects when no whole answer came in time: then nobody knows whether it acted. */
export interface HttpClient {
  send(question: HttpQuestion): Promise<HttpAnswer>;
  close(): void;
}

const answerBytesMax = 64 * 1024;

/** Connections are kept open, and there are never more than `connectionsMax`. */
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

  const attempt = (question: HttpQuestion): Promise<HttpAnswer> =>
    new Promise((resolve, reject) => {
      const { method, path, key, signal, timeoutMs } = question;
      const text = question.body === undefined ? undefined : JSON.stringify(question.body);
      const headers: Record<string, string> = { accept: 'application/json' };
      if (key !== undefined) headers['idempotency-key'] = key;
      if (text !== undefined) {
        headers['content-type'] = 'application/json';
        headers['content-length'] = String(Buffer.byteLength(text));
      }
      const request = open(new URL(path, base), { method, headers, agent, signal });
      const timer = setTimeout(() => request.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
      const fail = (error: Error) => {
        clearTimeout(timer);
        reject(staleConnection(request, error) ? new StaleConnection(error) : error);
      };
      request.once('error', fail);
      request.once('response', (response) => {
        readAnswer(response, request, question.bytesMax ?? answerBytesMax).then((answer) => {
          clearTimeout(timer);
          resolve(answer);
        }, fail);
      });
      request.end(text);
    });

  return {
    async send(question) {
      try {
        return await attempt(question);
      } catch (error) {
        // The server closed a connection that was kept open just as it was used again. The key makes a
        // second attempt harmless, and a fresh connection tells a restart from an absence.
        if (error instanceof StaleConnection) return attempt(question);
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

async function readAnswer(response: IncomingMessage, request: ClientRequest, bytesMax: number): Promise<HttpAnswer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bytesMax) {
      const error = new Error(`an answer of more than ${bytesMax} bytes`);
      request.destroy(error);
      throw error;
    }
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  try {
    return { status: response.statusCode ?? 0, body: JSON.parse(text) };
  } catch (cause) {
    throw new Error(`an answer with status ${response.statusCode} that is not JSON`, { cause });
  }
}
