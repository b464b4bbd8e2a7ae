// Reads metrics of a service for the tests of this folder.
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunningService } from '../test/support/service.ts';

const idleDeadlineMs = 5_000;

/** The sum of the samples of a metric whose labels contain `label`, such as `grpc_method="GetOrder"`. */
async function metric({ admin }: RunningService, name: string, label = ''): Promise<number> {
  const page = await (await fetch(`http://${admin}/metrics`)).text();
  const samples = page.split('\n').filter((line) => line.startsWith(`${name}{`) && line.includes(label));
  return samples.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

/** How many calls of a method the service has started to handle. */
export const started = (service: RunningService, method: string) =>
  metric(service, 'grpc_server_started_total', `grpc_method="${method}"`);

/** Resolves once the service has no call in progress. */
export async function idle(service: RunningService): Promise<void> {
  const deadline = Date.now() + idleDeadlineMs;
  for (;;) {
    const open = await metric(service, 'armature_rpc_in_flight');
    if (open === 0) return;
    if (Date.now() > deadline) throw new Error(`${open} calls are in progress after ${idleDeadlineMs} ms`);
    await sleep(10);
  }
}
