import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { serviceNames } from '../../../services/manifest.ts';
import { meshServices } from '../../devmesh/mesh.ts';
import { terminalProgress } from '../../devmesh/progress.ts';
import { runningMesh } from '../../devmesh/running-mesh.ts';
import { openState } from '../../devmesh/state.ts';
import { restartService } from '../../devmesh/up.ts';
import { knownName } from '../call/nearest.ts';
import type { Invocation } from '../command.ts';
import { UsageError } from '../exit-codes.ts';
import { printJson } from '../json.ts';

const pidOf = (name: string) => meshServices(runningMesh()).find((service) => service.name === name)?.pid ?? null;

/** The services that were named, or all that run. Throws where there is none of a name. */
function servicesNamed(names: readonly string[], all: boolean): string[] {
  if (!all && names.length === 0) throw new UsageError(`name services, or --all: ${serviceNames.join(', ')}`);
  const named = new Set(names.map((name) => knownName(name, serviceNames, `there is no service ${name}`)));
  const running = meshServices(runningMesh()).map(({ name }) => name);
  if (all) return running;
  const missing = [...named].find((name) => !running.includes(name));
  if (missing === undefined) return [...named];
  throw new Error(`${missing} is not running; armature up starts what is missing`);
}

/** Restarts services with the code as it is now, and waits until they are ready. */
export async function restartServices(
  names: readonly string[],
  { all = false }: { all?: boolean },
  { json, deadline }: Invocation,
): Promise<void> {
  const services = servicesNamed(names, all);
  const state = openState();
  const progress = terminalProgress();
  deadline.waitingFor = `${services.join(', ')} to be ready`;
  const ends = await Promise.allSettled(
    services.map((service) =>
      progress.step(
        service,
        () => restartService(state, { service, watch: false }, deadline.signal),
        () => `ready, pid ${pidOf(service)}`,
      ),
    ),
  );
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed) throw failed.reason;
  if (json) printJson(services.map((service) => ({ service, pid: pidOf(service) })));
}

/**
 * Has Node watch the code of a service and start it again at each change, and shows its log, until the command is
 * interrupted: then the service runs as before.
 */
export async function developService(name: string, { deadline }: Invocation): Promise<void> {
  const [service] = servicesNamed([name], false);
  const state = openState();
  // From the first line that the new process writes.
  const log = spawn('tail', ['-n', '0', '-F', join(state.dir, 'logs', `${service}.log`)], { stdio: 'inherit' });
  const stopped = Promise.withResolvers<void>();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stopped.resolve());
  const restart = (watch: boolean, cancel: AbortSignal) => restartService(state, { service: service!, watch }, cancel);
  let back: Promise<void> | undefined;
  const endWatching = () => {
    back ??= restart(false, AbortSignal.timeout(30_000));
    return back;
  };
  deadline.cleanUps.push(async () => log.kill(), endWatching);
  try {
    await restart(true, deadline.signal);
    console.error(`Node watches ${service}. Interrupt to have it run as before.`);
    await Promise.race([stopped.promise, once(log, 'close')]);
  } finally {
    log.kill();
    await endWatching();
  }
  console.error(`${service} runs as before (pid ${pidOf(service!)}).`);
}
