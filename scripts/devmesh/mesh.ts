import { join } from 'node:path';
import { type CertificateFiles, certificateFiles, workloadIds } from './certificates.ts';
import { policyFile, type TokenTrust } from './environment.ts';
import type { ProcessIdentity } from './processes.ts';
import { knownServers, type Servers } from './servers/servers.ts';
import { readJson, type State, writeAtomically } from './state.ts';

/** One service as the supervisor sees it. */
export interface MeshService {
  name: string;
  pid?: number;
  /** With the pid, tells this process from any later one of the same pid. */
  started?: string;
  /** host:port; the acquirer has only `http`, and identity has it as well, for HTTPS. */
  grpc?: string;
  admin?: string;
  http?: string;
  state: 'starting' | 'ready' | 'restarting' | 'stopped';
  restarts: number;
  /** Whether Node watches its code and starts it again at each change. */
  watching?: boolean;
  /** How the last process ended, when one did. */
  lastEnd?: string;
}

/** What runs, for people and programs: the content of mesh.json. */
export interface Mesh extends Servers {
  services: Record<string, MeshService>;
  acquirer?: MeshService;
  certificates: { ca: string } & Record<string, CertificateFiles | string>;
  /** Who issues access tokens. */
  tokens: TokenTrust;
  /** The policy that access began with; the one in force it tells itself. */
  policy: string;
}

export const meshFile = (state: Pick<State, 'dir'>) => join(state.dir, 'mesh.json');

export function readMesh(state: State): Mesh | undefined {
  return readJson<Mesh>(meshFile(state));
}

/** It holds the administrators' passwords, so only its owner may read it. */
export function writeMesh(state: State, services: readonly MeshService[], tokens: TokenTrust): void {
  const servers = knownServers(state);
  if (!servers) throw new Error(`${join(state.dir, 'servers.json')} is missing; run armature up`);
  const acquirer = services.find(({ name }) => name === 'acquirer');
  const others = services.filter((service) => service !== acquirer);
  const certificates = Object.keys(workloadIds()).map((name) => [name, certificateFiles(state, name)]);
  const mesh: Mesh = {
    services: Object.fromEntries(others.map((service) => [service.name, service])),
    ...(acquirer ? { acquirer } : {}),
    ...servers,
    certificates: { ...Object.fromEntries(certificates), ca: certificateFiles(state, 'ca').cert },
    tokens,
    policy: policyFile,
  };
  writeAtomically(meshFile(state), JSON.stringify(mesh, null, 2), 0o600);
}

export function meshServices(mesh: Mesh | undefined): MeshService[] {
  return mesh ? [...Object.values(mesh.services), ...(mesh.acquirer ? [mesh.acquirer] : [])] : [];
}

export function identityOf({ pid, started }: MeshService): ProcessIdentity | undefined {
  return pid !== undefined && started !== undefined ? { pid, started } : undefined;
}
