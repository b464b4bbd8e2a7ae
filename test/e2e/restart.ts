// Services of a test's shop that are frozen, killed and started again at the same place, on the same data.
import { readFileSync } from 'node:fs';
import type { Teardown } from '../support/infra.ts';
import { peersOf, type RunningService, startService } from '../support/service.ts';
import type { Shop } from './shop.ts';

/** Starts a service again that has ended, with other variables if there are any. */
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

/** Stops a process where it is, as a machine that hangs does, until it is thawed or the test ends. */
export function freeze(t: Teardown, { process }: RunningService): { thaw(): void } {
  const thaw = () => void process.kill('SIGCONT');
  process.kill('SIGSTOP');
  t.teardown(thaw);
  return { thaw };
}

/** Whether a process stands still, frozen from outside or at a crash point that stops. */
export const isStopped = ({ pid }: RunningService): boolean =>
  /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
