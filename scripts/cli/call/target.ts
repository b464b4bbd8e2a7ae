import type { DescMethod, DescService, FileRegistry } from '@bufbuild/protobuf';
import type { Mesh } from '../../devmesh/mesh.ts';
import { type Connection, connect } from './connection.ts';
import { didYouMean, nearest } from './nearest.ts';
import type { Principal } from './principal.ts';
import { describe, listServices } from './reflection.ts';

/** What RPC=… names, found on the service that has it. */
export interface Target {
  connection: Connection;
  registry: FileRegistry;
  service: DescService;
  /** Missing when only the service was named. */
  method?: DescMethod;
}

/** Finds the method, or throws with the nearest name that exists. Whoever gets a target closes its connection. */
export async function findTarget(rpc: string, mesh: Mesh, principal: Principal): Promise<Target> {
  const home = /^\/?armature\.([a-z0-9_]+)\.v\d+\./.exec(rpc)?.[1] ?? '';
  if (!(home in mesh.services)) throw new Error(await unknownService(rpc, mesh, principal));
  const connection = connect(mesh, home, principal);
  try {
    const offered = await listServices(connection);
    const { serviceName, methodName } = split(rpc, offered);
    if (!offered.includes(serviceName)) throw new Error(await unknownService(rpc, mesh, principal));
    const registry = await describe(connection, [serviceName]);
    const service = registry.getService(serviceName)!;
    if (methodName === '') return { connection, registry, service };
    const method = service.methods.find((one) => one.name === methodName);
    if (!method) throw new Error(unknownMethod(service, methodName));
    return { connection, registry, service, method };
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** "package.Service/Method", the same with a dot, or only the service. */
function split(rpc: string, offered: readonly string[]): { serviceName: string; methodName: string } {
  const name = rpc.replace(/^\//, '');
  if (offered.includes(name)) return { serviceName: name, methodName: '' };
  const slash = name.lastIndexOf('/');
  const end = slash >= 0 ? slash : name.lastIndexOf('.');
  const serviceName = name.slice(0, end);
  // Without a slash the last part is a method only if what is before it is a service.
  if (slash < 0 && !offered.includes(serviceName)) return { serviceName: name, methodName: '' };
  return { serviceName, methodName: name.slice(end + 1) };
}

function unknownMethod(service: DescService, methodName: string): string {
  const names = service.methods.map((method) => method.name);
  const near = didYouMean(methodName, names);
  return `${service.typeName} has no method ${methodName}${near || '.'} It has: ${names.join(', ')}.`;
}

async function unknownService(rpc: string, mesh: Mesh, principal: Principal): Promise<string> {
  const offered = (await Promise.allSettled(everyService(mesh, principal))).flatMap((one) =>
    one.status === 'fulfilled' ? one.value : [],
  );
  const asked = rpc.replace(/^\//, '');
  const [serviceName = '', methodName] = asked.split('/');
  const meant = nearest(serviceName, offered) ?? offered.find((name) => name.endsWith(`.${serviceName}`));
  const suggestion = meant ? `; did you mean ${methodName ? `${meant}/${methodName}` : meant}?` : '.';
  return `RPC=${rpc}: there is no service ${serviceName}${suggestion} There are: ${offered.sort().join(', ')}.`;
}

function everyService(mesh: Mesh, principal: Principal): Promise<string[]>[] {
  return Object.keys(mesh.services).map(async (name) => {
    const connection = connect(mesh, name, principal);
    try {
      return await listServices(connection);
    } finally {
      connection.close();
    }
  });
}

/** Everything that the mesh offers; services that do not answer are reported instead. */
export async function findAll(mesh: Mesh, principal: Principal): Promise<{ found: DescService[]; silent: string[] }> {
  const silent: string[] = [];
  const asked = Object.keys(mesh.services).map(async (name) => {
    let connection: Connection | undefined;
    try {
      connection = connect(mesh, name, principal);
      const names = await listServices(connection);
      const registry = await describe(connection, names);
      return names.map((one) => registry.getService(one)!);
    } catch (error) {
      silent.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      return [];
    } finally {
      connection?.close();
    }
  });
  return { found: (await Promise.all(asked)).flat(), silent };
}
