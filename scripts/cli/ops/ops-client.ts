// What all commands of operators share: which services are called, as which principal, and how a list survives a
// service that does not respond.
import { type Client, opsClient } from '@armature/clients';
import type { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import { type ServiceName, storingServices } from '../../../services/manifest.ts';
import { addressOf, runningMesh } from '../../devmesh/running-mesh.ts';
import { knownName } from '../call/nearest.ts';
import { certificateOf, parsePrincipal } from '../call/principal.ts';
import { tokenFor } from '../call/tokens.ts';
import type { Invocation } from '../command.ts';
import { reportError } from '../failure.ts';
import { isSilence, silentParts } from '../silence.ts';
import { writeTable } from '../table.ts';
import { terminalWidth, withNotice } from '../terminal.ts';

export type OpsClient = Client<typeof OpsServiceContract>;

/** Who calls, and how the result is written. */
export interface Caller {
  as: string;
  invocation: Invocation;
}

/** Writes a note that does not belong to the result. */
export const note = (line: string) => console.error(line);

/** The service of --service, or of another option that names one. Throws with the nearest name where there is none of that name. */
export function serviceNamed(name: string, option = '--service'): ServiceName {
  return knownName(name, storingServices, `${option} ${name}: no such service`);
}

/** The services of --service: one, or all that keep data where the option is missing. */
export function servicesNamed(name: string | undefined): ServiceName[] {
  return name === undefined ? storingServices : [serviceNamed(name)];
}

/** Calls OpsService of one service. */
export async function callOps<T>(
  service: ServiceName,
  { as, invocation }: Caller,
  call: (client: OpsClient) => Promise<T>,
): Promise<T> {
  const principal = parsePrincipal(as);
  const mesh = runningMesh();
  const { cert, key } = certificateOf(mesh, principal.workload);
  const tls = { certFile: cert, keyFile: key, caFile: mesh.certificates.ca };
  const token = principal.owner ? await tokenFor(principal.owner, mesh) : undefined;
  const client = opsClient(service as Parameters<typeof opsClient>[0], {
    ...{ addresses: [addressOf(mesh, service)], tls, token: () => token },
  });
  const what = `OpsService of ${service}`;
  invocation.deadline.waitingFor = what;
  try {
    return await withNotice(what, () => call(client));
  } finally {
    client.close();
  }
}

/** Calls all of these services at once. The failure of one is reported, and ends the command with exit code 1. */
export async function callOpsOfAll<T>(
  services: readonly ServiceName[],
  caller: Caller,
  call: (client: OpsClient) => Promise<T[]>,
): Promise<{ service: ServiceName; item: T }[]> {
  // These errors concern no single service, so they are not reported for each.
  parsePrincipal(caller.as);
  runningMesh();
  // The first call signs in; the others find its token.
  const [first, ...others] = services.map((service) => () => callOps(service, caller, call));
  const results = await Promise.allSettled([first!()]);
  results.push(...(await Promise.allSettled(others.map((one) => one()))));
  let silent: string[] | undefined;
  if (results.some((one) => one.status === 'rejected' && isSilence(one.reason))) {
    silent = await silentParts().catch(() => []);
  }
  return results.flatMap((result, index) => {
    const service = services[index]!;
    if (result.status === 'fulfilled') return result.value.map((item) => ({ service, item }));
    reportError(result.reason, { json: caller.invocation.json, prefix: `${service}: `, silent });
    silent = undefined;
    return [];
  });
}

/** Prints a table that fits the terminal. */
export function printTable(headings: readonly string[], rows: readonly (readonly string[])[]): void {
  for (const line of writeTable([headings, ...rows], 'text', terminalWidth())) console.log(line);
}

export const time = (date: Date | undefined): string =>
  date ? date.toISOString().slice(0, 19).replace('T', ' ') : '-';

/** An enum's value without the prefix that all of its values have. */
export function valueName(values: Readonly<Record<string, unknown>>, value: unknown, prefix: string): string {
  const [name = String(value)] = Object.entries(values).find(([, one]) => one === value) ?? [];
  return name.replace(prefix, '').toLowerCase().replaceAll('_', ' ');
}

/** Says what a table of results leaves out: that it is empty, that more match, that nothing was done yet. */
export function noteOmissions(
  results: readonly unknown[],
  { of, more, apply }: { of: string; more: boolean; apply: boolean },
): void {
  if (results.length === 0) note(`no ${of} matches`);
  if (more) note(`more ${of}s match; run the command again for those`);
  if (!apply && results.length > 0) note('nothing was done; --apply does it');
}
