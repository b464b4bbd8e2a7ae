/**
 * A caller in a process of its own, which can be put into another network namespace. Its parent says by IPC what to
 * call, and is told how the call ended and how long it took.
 */
import { catalogClient, inventoryClient } from '@armature/clients';
import { RpcError } from '@armature/runtime/errors';

export interface Setup {
  inventory: string;
  catalog: string;
  tls: { certFile: string; keyFile: string; caFile: string };
}

export interface Question {
  id: number;
  service: 'inventory' | 'catalog';
  method: string;
  message: object;
  timeoutMs: number;
}

export interface CallResult {
  id: number;
  /** `OK`, a gRPC code, or the name of an error without one. */
  code: string;
  detail: string;
  /** JSON of the reply, with 64-bit integers as text. */
  reply: string;
  tookMs: number;
}

const { inventory, catalog, tls } = JSON.parse(process.argv[2]!) as Setup;
const clients = {
  inventory: inventoryClient({ addresses: [inventory], tls }),
  catalog: catalogClient({ addresses: [catalog], tls }),
};

process.on('message', async ({ id, service, method, message, timeoutMs }: Question) => {
  const since = performance.now();
  const call = (clients[service] as unknown as Record<string, (m: object, o: object) => Promise<unknown>>)[method]!;
  const result = await call(message, { timeoutMs }).then(
    (reply) => ({ code: 'OK', detail: '', reply: JSON.stringify(reply, plain) }),
    (error: Error) => ({
      code: error instanceof RpcError ? error.code : error.name,
      detail: error.message,
      reply: '',
    }),
  );
  process.send?.({ id, ...result, tookMs: performance.now() - since } satisfies CallResult);
});
process.on('disconnect', () => process.exit(0));
process.send?.('ready');

function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
