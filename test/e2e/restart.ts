// Freezes, kills and restarts services of a test's shop at the same address, with the same data.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RpcError } from '@armature/runtime';
import type { Teardown } from '../support/infra.ts';
import { peersOf, type RunningService, startService } from '../support/service.ts';
import type { Shop } from './shop.ts';

/** Starts a service that has ended again, optionally with other variables. */
export async function startAgain(
  t: Teardown,
  shop: Pick<Shop, 'mesh' | 'service'>,
  name: string,
  env: Record<string, string> = {},
): Promise<RunningService> {
  const { database, vhost, grpc, http } = shop.service(name);
  const acquirerUrl = `http://${shop.service('acquirer').http}`;
  const places = name === 'payments' ? { grpc, http } : { grpc };
  const peers = peersOf(shop.mesh);
  const started = await startService(t, name, { database, vhost, ...places, acquirerUrl, peers, env });
  shop.mesh[name] = started;
  return started;
}

/**
 * Ends a service of the shop unless it has ended, and starts it again at the same address with the same data and other
 * settings. Resolves once calls reach it.
 */
export async function restart(
  t: Teardown,
  shop: Shop,
  name: string,
  env: Record<string, string>,
): Promise<RunningService> {
  const { process, stop } = shop.service(name);
  if (process.exitCode === null && process.signalCode === null) await stop();
  const started = await startAgain(t, shop, name, env);
  // Channels that could not connect wait a little before they retry.
  while (unreachable.has(await codeOf(questions[name]!(shop)))) await sleep(50);
  return started;
}

const unreachable = new Set(['UNAVAILABLE', 'DEADLINE_EXCEEDED']);
const codeOf = (reply: Promise<unknown>): Promise<string> =>
  reply.then(
    () => 'OK',
    (error: RpcError) => error.code,
  );

/** A call of each service that shows whether it can be reached. */
const questions: Record<string, (shop: Shop) => Promise<unknown>> = {
  inventory: ({ staff }) => staff.inventory.batchGetStock({ skus: ['NOTHING'] }),
  orders: ({ customer }) => customer.orders.getOrder({ orderId: randomUUID() }),
  payments: ({ customer }) => customer.payments.getPayment({ paymentId: randomUUID() }),
};

/** Stops a process as a hanging machine does, until it is thawed or the test ends. */
export function freeze(t: Teardown, { process }: RunningService): { thaw(): void } {
  const thaw = () => void process.kill('SIGCONT');
  process.kill('SIGSTOP');
  t.teardown(thaw);
  return { thaw };
}

/** Whether a process is stopped, by `freeze` or at a crash point. */
export const isStopped = ({ pid }: RunningService): boolean =>
  /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
