import type { DescMethod, DescService, FileRegistry } from '@bufbuild/protobuf';
import type { Mesh } from '../../devmesh/mesh.ts';
import { UsageError } from '../exit-codes.ts';
import { SilenceError } from '../silence.ts';
import { type Connection, connect } from './connection.ts';
import { didYouMean, nearest } from './nearest.ts';
import type { Principal } from './principal.ts';
import { describe, listServices } from './reflection.ts';

/** What a call names, found on the service that has it. */
export interface Target {
  connection: Connection;
  registry: FileRegistry;
  service: DescService;
  /** Missing when only the service was named. */
  method?: DescMethod;
}

/** A gRPC service that a service of the mesh offers. */
interface Offer {
  /** The service of the mesh, such as "orders". */
  home: string;
  /** The full name of the gRPC service. */
  typeName: string;
}

/**
 * Finds the method, or throws with the nearest name that exists. A name without its package is looked for in all
 * services of the mesh, or only in `home`. The caller closes the target's connection.
 */
export async function findTarget(rpc: string, mesh: Mesh, principal: Principal, home?: string): Promise<Target> {
  const name = rpc.replace(/^\//, '');
  const owner = home ?? /^armature\.([a-z0-9_]+)\.v\d+\./.exec(name)?.[1];
  if (owner !== undefined && owner in mesh.services) {
    const target = await withConnection(mesh, owner, principal, async (connection) => {
      const offered = await listServices(connection);
      const { serviceName, methodName } = split(name, offered);
      const found = offered.filter((one) => matches(one, serviceName));
      return found.length === 1 ? targetOf(connection, found[0]!, methodName) : undefined;
    });
    if (target) return target;
  }
  const { offers, silent } = await allOffers(mesh, principal, home);
  const { serviceName, methodName } = split(
    name,
    offers.map(({ typeName }) => typeName),
  );
  const found = offers.filter(({ typeName }) => matches(typeName, serviceName));
  if (found.length === 1) {
    const [{ home, typeName }] = found as [Offer];
    return (await withConnection(mesh, home, principal, (connection) => targetOf(connection, typeName, methodName)))!;
  }
  if (found.length > 1) throw new UsageError(ambiguous(serviceName, found));
  const method = methodName === '' ? await methodNear(serviceName, mesh, principal, home) : undefined;
  const problem = unknownService({ rpc, serviceName, methodName, method }, offers, silent);
  // A service that did not respond may be the one that has it.
  throw silent.length > 0 ? new SilenceError(problem) : new UsageError(problem);
}

/** Connects, and closes the connection again unless the work makes a target of it. */
async function withConnection(
  mesh: Mesh,
  home: string,
  principal: Principal,
  work: (connection: Connection) => Promise<Target | undefined>,
): Promise<Target | undefined> {
  const connection = connect(mesh, home, principal);
  let target: Target | undefined;
  try {
    target = await work(connection);
    return target;
  } finally {
    if (!target) connection.close();
  }
}

async function targetOf(connection: Connection, typeName: string, methodName: string): Promise<Target> {
  const registry = await describe(connection, [typeName]);
  const service = registry.getService(typeName)!;
  if (methodName === '') return { connection, registry, service };
  const method = service.methods.find((one) => one.name === methodName);
  if (!method) throw new UsageError(unknownMethod(service, methodName));
  return { connection, registry, service, method };
}

/** Whether a full name is meant by `name`: itself, or without its package. */
const matches = (typeName: string, name: string) => typeName === name || typeName.endsWith(`.${name}`);

/** "package.Service/Method", the same with a dot, or only the service; each also without the package. */
function split(name: string, offered: readonly string[]): { serviceName: string; methodName: string } {
  const known = (service: string) => service !== '' && offered.some((one) => matches(one, service));
  if (known(name)) return { serviceName: name, methodName: '' };
  const slash = name.lastIndexOf('/');
  const end = slash >= 0 ? slash : name.lastIndexOf('.');
  const serviceName = name.slice(0, Math.max(end, 0));
  // Without a slash the last part is a method only if what is before it is a service.
  if (slash < 0 && !known(serviceName)) return { serviceName: name, methodName: '' };
  return { serviceName, methodName: name.slice(end + 1) };
}

function unknownMethod(service: DescService, methodName: string): string {
  const names = service.methods.map((method) => method.name);
  const near = didYouMean(methodName, names);
  return `${service.typeName} has no method ${methodName}${near || '.'} It has: ${names.join(', ')}.`;
}

/** The method that was meant by a word alone, as Service/Method. */
async function methodNear(word: string, mesh: Mesh, principal: Principal, home?: string): Promise<string | undefined> {
  const { found } = await findAll(mesh, principal, home);
  const methods = found.flatMap(({ service }) =>
    service.methods.map(({ name }) => [name, `${shortName(service.typeName)}/${name}`] as const),
  );
  const names = new Map(methods);
  return names.get(nearest(word, names.keys()) ?? '');
}

interface Asked {
  /** The method that may have been meant where the service was left out. */
  method: string | undefined;
  rpc: string;
  serviceName: string;
  methodName: string;
}

function unknownService(
  { rpc, serviceName, methodName, method }: Asked,
  offers: readonly Offer[],
  silent: string[],
): string {
  const full = [...new Set(offers.map(({ typeName }) => typeName))].sort();
  const short = new Map(full.map((name) => [shortName(name), name]));
  const meant = nearest(serviceName, full) ?? short.get(nearest(serviceName, short.keys()) ?? '');
  const whole = method ?? (meant && methodName ? `${meant}/${methodName}` : meant);
  const suggestion = whole ? `; did you mean ${whole}?` : '.';
  const missing = silent.length > 0 ? ` These did not respond: ${silent.join('; ')}.` : '';
  return `${rpc}: there is no service ${serviceName}${suggestion} There are: ${full.join(', ')}.${missing}`;
}

const shortName = (typeName: string) => typeName.slice(typeName.lastIndexOf('.') + 1);

function ambiguous(serviceName: string, found: readonly Offer[]): string {
  const types = [...new Set(found.map(({ typeName }) => typeName))];
  if (types.length > 1) return `${serviceName} may be ${types.join(' or ')}; write it with its package`;
  const homes = found.map(({ home }) => home);
  return `${types[0]} is offered by ${homes.join(', ')}; choose one by --service, such as --service ${homes[0]}`;
}

/** What all services of the mesh offer; those that do not respond are named instead. */
async function allOffers(
  mesh: Mesh,
  principal: Principal,
  home?: string,
): Promise<{ offers: Offer[]; silent: string[] }> {
  const { results, silent } = await eachService(mesh, principal, home, (connection) => listServices(connection));
  return { offers: results.flatMap(({ home, result }) => result.map((typeName) => ({ home, typeName }))), silent };
}

/** Everything that the mesh offers, described; services that do not respond are named instead. */
export async function findAll(
  mesh: Mesh,
  principal: Principal,
  home?: string,
): Promise<{ found: { home: string; service: DescService }[]; silent: string[] }> {
  const { results, silent } = await eachService(mesh, principal, home, async (connection) => {
    const names = await listServices(connection);
    const registry = await describe(connection, names);
    return names.map((one) => registry.getService(one)!);
  });
  return { found: results.flatMap(({ home, result }) => result.map((service) => ({ home, service }))), silent };
}

async function eachService<T>(
  mesh: Mesh,
  principal: Principal,
  home: string | undefined,
  work: (connection: Connection) => Promise<T>,
): Promise<{ results: { home: string; result: T }[]; silent: string[] }> {
  const silent: string[] = [];
  const homes = home === undefined ? Object.keys(mesh.services) : [home];
  const all = homes.map(async (name) => {
    let connection: Connection | undefined;
    try {
      connection = connect(mesh, name, principal);
      return [{ home: name, result: await work(connection) }];
    } catch (error) {
      silent.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      return [];
    } finally {
      connection?.close();
    }
  });
  return { results: (await Promise.all(all)).flat(), silent };
}
