import { readFileSync } from 'node:fs';
import { workloadOf } from '@armature/runtime/credentials';
import { decodeStatus, RpcError } from '@armature/runtime/errors';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { trustDomain } from '../../devmesh/certificates.ts';
import type { Mesh } from '../../devmesh/mesh.ts';
import { addressOf } from '../../devmesh/running-mesh.ts';
import { certificateOf, type Principal } from './principal.ts';

/** How one call goes out. */
export interface Sending {
  timeoutMs: number;
  token?: string;
  signal?: AbortSignal;
}

/** A connection that carries bytes: what they mean, reflection tells. */
export interface Connection {
  service: string;
  unary(path: string, message: Uint8Array, sending: Sending): Promise<Buffer>;
  /** Messages as they come; ends without an error when the signal takes the call back. */
  stream(path: string, message: Uint8Array, sending: Sending): AsyncIterable<Buffer>;
  /** Sends all messages, then reads until the server has no more to say. */
  converse(path: string, messages: readonly Uint8Array[], sending: Sending): Promise<Buffer[]>;
  close(): void;
}

const bytes = (buffer: Buffer): Buffer => buffer;

/** Connects to a service of the mesh with the principal's certificate, and fails unless that service is on the other end. */
export function connect(mesh: Mesh, service: string, principal: Principal): Connection {
  const files = certificateOf(mesh, principal.workload);
  const [ca, key, cert] = [mesh.certificates.ca, files.key, files.cert].map((path) => readFileSync(path));
  const secured = credentials.createSsl(ca!, key!, cert!, {
    checkServerIdentity(_host, certificate) {
      const found = workloadOf(certificate, trustDomain);
      if (found === `service:${service}`) return undefined;
      return new Error(`expected service:${service} on the other end, found ${found ?? 'no workload'}`);
    },
  });
  const client = new Client(addressOf(mesh, service), secured, {
    // TLS wants a name rather than an address; who the server is, its SPIFFE id tells.
    'grpc.ssl_target_name_override': 'localhost',
    'grpc.enable_retries': 0,
  });
  const outgoing = ({ timeoutMs, token }: Sending) => {
    const metadata = new Metadata();
    if (token) metadata.set('authorization', `Bearer ${token}`);
    return [metadata, { deadline: Date.now() + timeoutMs }] as const;
  };
  return {
    service,
    unary: (path, message, sending) =>
      new Promise((resolve, reject) => {
        const done = (error: ServiceError | null, reply?: Buffer) =>
          error ? reject(refusalOf(error, path)) : resolve(reply!);
        const call = client.makeUnaryRequest(path, bytes, bytes, Buffer.from(message), ...outgoing(sending), done);
        sending.signal?.addEventListener('abort', () => call.cancel(), { once: true });
      }),
    async *stream(path, message, sending) {
      const call = client.makeServerStreamRequest(path, bytes, bytes, Buffer.from(message), ...outgoing(sending));
      sending.signal?.addEventListener('abort', () => call.cancel(), { once: true });
      try {
        for await (const reply of call) yield reply as Buffer;
      } catch (error) {
        if (!sending.signal?.aborted) throw refusalOf(error as ServiceError, path);
      }
    },
    async converse(path, messages, sending) {
      const call = client.makeBidiStreamRequest(path, bytes, bytes, ...outgoing(sending));
      for (const message of messages) call.write(Buffer.from(message));
      call.end();
      try {
        return (await Array.fromAsync(call)) as Buffer[];
      } catch (error) {
        throw refusalOf(error as ServiceError, path);
      }
    },
    close: () => client.close(),
  };
}

/** What the service said, from google.rpc.Status where there is one, else code and message. */
function refusalOf(error: ServiceError, path: string): RpcError {
  const details = error.metadata?.get('grpc-status-details-bin')[0];
  if (Buffer.isBuffer(details)) return decodeStatus(details, path);
  const code = (status[error.code] ?? 'UNKNOWN') as RpcError['code'];
  return new RpcError(code, '', error.details || error.message, { from: path });
}
