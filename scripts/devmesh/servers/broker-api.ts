import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { caReader, splitCa } from '@armature/runtime/credentials';

const responseTimeoutMs = 15_000;

/** The broker's management API, with the account in its URL and, for https, the file of its CA bundle in `?cacertfile=`. */
export class BrokerApi {
  readonly #origin: string;
  readonly #auth: string;
  readonly #ca: (() => string) | undefined;

  constructor(url: string) {
    const bare = splitCa(url);
    const { username, password: secret, origin } = new URL(bare.url);
    this.#auth = `${decodeURIComponent(username)}:${decodeURIComponent(secret)}`;
    this.#origin = origin;
    this.#ca = bare.caFile ? caReader(bare.caFile) : undefined;
  }

  /** Returns the parsed body, or undefined for an empty one. Throws with the broker's text for any other status. */
  async request(
    method: 'GET' | 'PUT' | 'POST' | 'DELETE',
    path: string,
    body?: unknown,
    timeoutMs = responseTimeoutMs,
  ): Promise<unknown> {
    const json = body === undefined ? undefined : JSON.stringify(body);
    const { status, text } = await this.#send(method, path, json, timeoutMs);
    if (status < 200 || status > 299) {
      throw new Error(`RabbitMQ responded ${status} to ${method} ${path}: ${text.slice(0, 300)}`);
    }
    return text ? JSON.parse(text) : undefined;
  }

  /** Not by fetch, which cannot be told whom to trust. */
  #send(
    method: string,
    path: string,
    body: string | undefined,
    timeoutMs: number,
  ): Promise<{ status: number; text: string }> {
    const url = new URL(`${this.#origin}/api${path}`);
    const options = {
      method,
      auth: this.#auth,
      agent: false,
      headers: { 'content-type': 'application/json' },
      signal: AbortSignal.timeout(timeoutMs),
    };
    return new Promise((resolve, reject) => {
      const request =
        url.protocol === 'https:'
          ? httpsRequest(url, { ...options, ca: this.#ca?.(), minVersion: 'TLSv1.2' })
          : httpRequest(url, options);
      request.on('error', reject);
      request.on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() });
        });
      });
      request.end(body);
    });
  }
}
