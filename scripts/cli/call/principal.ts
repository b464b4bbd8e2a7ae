import { readFileSync } from 'node:fs';
import { serviceNames } from '../../../services/manifest.ts';
import type { CertificateFiles } from '../../devmesh/certificates.ts';
import type { Mesh } from '../../devmesh/mesh.ts';
import { people, programs } from '../../devmesh/people.ts';
import type { TokenOwner } from '../../devmesh/sign-in/token-cache.ts';
import { UsageError } from '../exit-codes.ts';
import { didYouMean, knownName } from './nearest.ts';

/** Who a call is made as: the workload whose certificate is shown, and the owner of the token that goes along. */
export interface Principal {
  /** The name of a certificate of the mesh: "developer", or a service's name. */
  workload: string;
  owner?: TokenOwner;
}

const forms = 'customer:<user>, staff:<user>, admin, operator, client:<id>, service:<name> or nobody';

/** Reads --as. Throws with all that it could have been. */
export function parsePrincipal(as: string): Principal {
  if (as === 'nobody') return { workload: 'developer' };
  if (as === 'admin') return { workload: 'developer', owner: { kind: 'user', id: 'admin' } };
  if (as === 'operator') return { workload: 'developer', owner: { kind: 'user', id: 'olga' } };
  const [kind = '', name = '', ...rest] = as.split(':');
  if (!['customer', 'staff', 'client', 'service'].includes(kind) || name === '' || rest.length > 0) {
    const near = didYouMean(kind, ['customer', 'staff', 'admin', 'operator', 'client', 'service', 'nobody']);
    throw new UsageError(`--as ${as} is not understood${near || '.'} It is one of ${forms}.`);
  }
  if (kind === 'service') return { workload: knownName(name, serviceNames, `--as ${as}: there is no such service`) };
  // Only those whose passwords and keys were made here can sign in from here.
  const problem = `--as ${as}: no account of that name exists here`;
  if (kind === 'client') {
    return { workload: 'developer', owner: { kind: 'client', id: knownName(name, programs, problem) } };
  }
  const ids = people.map(({ id }) => id);
  return { workload: 'developer', owner: { kind: 'user', id: knownName(name, ids, problem) } };
}

/**
 * A warning for --as staff:<user> where policy does not know that user as staff: being called so makes no user staff,
 * and the refusal that follows would not say why.
 */
export function doubtAbout(as: string, { owner }: Principal, mesh: Mesh): string | undefined {
  if (!as.startsWith('staff:') || !owner) return undefined;
  const grants = [...readFileSync(mesh.policy, 'utf8').matchAll(/^g,\s*user:(\S+),\s*role:(?:staff|admin)\s*$/gm)];
  const staff = grants.map((grant) => grant[1]!);
  if (staff.includes(owner.id)) return undefined;
  const began = `${mesh.policy}, which policy began with, does not make ${owner.id} staff, only ${staff.join(' and ')}`;
  return `${began}; unless access was told otherwise since, the call is a customer's`;
}

export function certificateOf(mesh: Mesh, name: string): CertificateFiles {
  const files = mesh.certificates[name];
  if (typeof files !== 'object') throw new Error(`mesh.json names no certificate of ${name}; run armature up again`);
  return files;
}
