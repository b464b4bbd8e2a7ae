import { readFileSync } from 'node:fs';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { WebhookConfig } from './config.ts';
import { signature } from './webhook-signature.ts';

const TIMEOUT_MS = 5_000;
const CONNECTION_LIMIT = 16;

export type WebhookPoster = {
  /** Resolves with the status of the response. Rejects when there is none in time. */
  post(body: string): Promise<number>;
  close(): void;
};

/** Posts signed bodies to the configured address, over connections that are kept open. */
export function webhookPoster({ url, secrets, caFile }: WebhookConfig): WebhookPoster {
  const secure = url.startsWith('https:');
  const options = { keepAlive: true, maxSockets: CONNECTION_LIMIT };
  const agent = secure
    ? new HttpsAgent({ ...options, ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }) })
    : new HttpAgent(options);
  const open = secure ? httpsRequest : httpRequest;
  return {
    post: (body) =>
      new Promise((resolve, reject) => {
        const headers = {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          'acquirer-signature': signature(secrets, Math.floor(Date.now() / 1000), body),
        };
        const request = open(url, { method: 'POST', agent, headers }, (response: IncomingMessage) => {
          // Only the status of the response is used.
          response.resume();
          response.on('error', reject);
          response.once('end', () => {
            clearTimeout(timer);
            resolve(response.statusCode ?? 0);
          });
        });
        const timer = setTimeout(() => request.destroy(new Error(`no response within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
        request.on('error', (error) => {
          clearTimeout(timer);
          reject(error);
        });
        request.end(body);
      }),
    close: () => agent.destroy(),
  };
}
