import type { ListenOptions, Server } from 'node:net';
import type { CallLog } from '../context/call-context.ts';

/**
 * Listens, and resolves once connections are accepted. Rejects when the address cannot be bound. Later errors concern
 * one connection that was not accepted (the process has no file descriptor left, for example); they are logged, and the
 * server continues.
 */
export async function startListening(server: Server, where: ListenOptions, log: Pick<CallLog, 'warn'>): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
  surviveAcceptErrors(server, log);
}

/** Logs errors of a server that listens. Without a listener, an error that is emitted ends the process. */
export function surviveAcceptErrors(server: Server, log: Pick<CallLog, 'warn'>): void {
  server.on('error', (error) => log.warn({ err: error }, 'a connection was not accepted'));
}
