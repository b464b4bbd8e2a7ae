import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { checkServerIdentity } from 'node:tls';
import { workloadOf } from '@armature/runtime/credentials';
import { trustDomain } from '../certificates.ts';

/** What this program asks over HTTPS. */
export interface HttpsRequest {
  method: string;
  headers: Record<string, string>;
  body?: string | undefined;
}

/** Asks once: redirects come back as they are. */
export type Https = (url: string, request: HttpsRequest) => Promise<Response>;

const timeoutMs = 20_000;
const bodyBytesMax = 1024 * 1024;

/**
 * HTTPS to a service of the mesh: its certificate must come from the mesh's own authority, for this host and for
 * this workload. Node's fetch cannot be told of an authority.
 */
export function httpsTo(workload: string, caFile: string): Https {
  const ca = readFileSync(caFile);
  return (url, { method, headers, body }) =>
    new Promise((resolve, reject) => {
      const options = {
        method,
        headers: body === undefined ? headers : { ...headers, 'content-length': String(Buffer.byteLength(body)) },
        ca,
        signal: AbortSignal.timeout(timeoutMs),
        checkServerIdentity(host: string, certificate: Parameters<typeof checkServerIdentity>[1]) {
          const found = workloadOf(certificate, trustDomain);
          if (found === workload) return checkServerIdentity(host, certificate);
          return new Error(`expected ${workload} on the other end, found ${found ?? 'no workload'}`);
        },
      };
      const outgoing = request(url, options, (incoming) => {
        const chunks: Buffer[] = [];
        let length = 0;
        incoming.on('data', (chunk: Buffer) => {
          length += chunk.length;
          if (length > bodyBytesMax)
            incoming.destroy(new Error(`${url} responded with more than ${bodyBytesMax} bytes`));
          else chunks.push(chunk);
        });
        incoming.on('error', reject);
        incoming.once('end', () => {
          const pairs = Object.entries(incoming.headersDistinct).flatMap(([name, values]) =>
            (values ?? []).map((value): [string, string] => [name, value]),
          );
          const { statusCode: status = 502 } = incoming;
          // Responses with these statuses have no body, and the constructor of Response requires that.
          const content = status === 204 || status === 304 ? null : Buffer.concat(chunks);
          resolve(new Response(content, { status, headers: pairs }));
        });
      });
      outgoing.on('error', (cause) =>
        reject(new Error(`${workload} does not respond at ${new URL(url).origin}`, { cause })),
      );
      outgoing.end(body);
    });
}
