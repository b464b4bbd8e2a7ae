// What all commands of an operator share: which services are asked, as whom, and how a refusal ends the command.
import { type Client, opsClient } from '@armature/clients';
import type { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import { RpcError } from '@armature/runtime/errors/errors.ts';
import { addressOf, runningMesh } from '../../devmesh/running-mesh.ts';
import { type ServiceName, storingServices } from '../../devmesh/services.ts';
import { didYouMean } from '../call/nearest.ts';
import { certificateOf, parsePrincipal } from '../call/principal.ts';
import { renderRefusal } from '../call/refusal.ts';
import { tokenFor } from '../call/tokens.ts';
import { writeTable } from '../table.ts';

export type Ops = Client<typeof OpsServiceContract>;

export const say = (line: string) => console.error(line);

/** Reads S=…; empty means every service that keeps data. */
export function servicesOf(said: string): ServiceName[] {
  if (said === '') return storingServices;
  const found = storingServices.find((name) => name === said);
  if (found) return [found];
  throw new Error(
    `S=${said}: no such service${didYouMean(said, storingServices) || '.'} There are: ${storingServices.join(', ')}.`,
  );
}

/** Reads a variable that the command cannot do without. */
export function needed(name: string, example: string): string {
  const value = process.env[name] ?? '';
  if (value === '') throw new Error(`${name} is missing; for example: ${example}`);
  return value;
}

/** Asks one service as the operator, who signs in to identity as everybody does; AS=… is somebody else. */
export async function asked<T>(service: ServiceName, ask: (ops: Ops) => Promise<T>): Promise<T> {
  const mesh = runningMesh();
  const principal = parsePrincipal(process.env.AS || 'operator', mesh);
  const { cert, key } = certificateOf(mesh, principal.workload);
  const tls = { certFile: cert, keyFile: key, caFile: mesh.certificates.ca };
  const token = principal.owner ? await tokenFor(principal.owner, mesh) : undefined;
  const ops = opsClient(service as Parameters<typeof opsClient>[0], {
    ...{ addresses: [addressOf(mesh, service)], tls, token: () => token },
  });
  try {
    return await ask(ops);
  } finally {
    ops.close();
  }
}

/** Asks all of these at once. What one of them does not answer is said, and ends the command with status 1. */
export async function askedOfAll<T>(
  services: readonly ServiceName[],
  ask: (ops: Ops) => Promise<T[]>,
): Promise<{ service: ServiceName; item: T }[]> {
  // The first signs in; the others find its token.
  const [first, ...others] = services.map((service) => () => asked(service, ask));
  const answers = await Promise.allSettled([first!()]);
  answers.push(...(await Promise.allSettled(others.map((one) => one()))));
  return answers.flatMap((answer, index) => {
    const service = services[index]!;
    if (answer.status === 'fulfilled') return answer.value.map((item) => ({ service, item }));
    refused(answer.reason, `${service}: `);
    return [];
  });
}

/** Says why not, with the rule that refused it, and ends the command with status 1. */
export function refused(error: unknown, prefix = ''): void {
  process.exitCode = 1;
  if (error instanceof RpcError) for (const line of renderRefusal(error)) say(`${prefix}${line}`);
  else say(`${prefix}${error instanceof Error ? error.message : String(error)}`);
}

/** Lines in columns under their headings. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return writeTable([headings, ...rows], 'text');
}

export const time = (date: Date | undefined): string =>
  date ? date.toISOString().slice(0, 19).replace('T', ' ') : '-';

/** An enum's value without the prefix that all of its values have. */
export function valueName(values: Readonly<Record<string, unknown>>, value: unknown, prefix: string): string {
  const [name = String(value)] = Object.entries(values).find(([, one]) => one === value) ?? [];
  return name.replace(prefix, '').toLowerCase().replaceAll('_', ' ');
}
