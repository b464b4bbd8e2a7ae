import { readFileSync } from 'node:fs';
import type { JWK } from 'jose';
import type { CertificateFiles } from '../certificates.ts';
import type { Mesh } from '../mesh.ts';
import { mintToken } from '../token.ts';
import { didYouMean } from './nearest.ts';

/** Who a call is made as: the workload whose certificate is shown, and the user whose token goes along. */
export interface Principal {
  /** The name of a certificate of the mesh: "developer", or a service's name. */
  workload: string;
  user?: string;
}

const forms = 'customer:<user>, staff:<user>, admin, service:<name> or nobody';
/** What services accept as the id of a user. */
const userPattern = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** Reads AS=…; throws with everything that it could have been. */
export function parsePrincipal(as: string, mesh: Mesh): Principal {
  if (as === 'nobody') return { workload: 'developer' };
  if (as === 'admin') return { workload: 'developer', user: 'admin' };
  const [kind = '', name = '', ...rest] = as.split(':');
  if (!['customer', 'staff', 'service'].includes(kind) || name === '' || rest.length > 0) {
    const near = didYouMean(kind, ['customer', 'staff', 'admin', 'service', 'nobody']);
    throw new Error(`AS=${as} is not understood${near || '.'} It is one of ${forms}.`);
  }
  if (kind === 'service') return { workload: serviceNamed(name, mesh) };
  if (!userPattern.test(name)) throw new Error(`AS=${as}: a user is lower-case letters, digits, dots, _ and -`);
  return { workload: 'developer', user: name };
}

function serviceNamed(name: string, mesh: Mesh): string {
  const services = Object.keys(mesh.certificates).filter((one) => one !== 'ca' && one !== 'developer');
  if (services.includes(name)) return name;
  throw new Error(`AS=service:${name}: there is no such service${didYouMean(name, services)} (${services.join(', ')})`);
}

/**
 * A warning for AS=staff:<user> where policy does not know that user as staff: being called so makes nobody staff,
 * and the refusal that follows would not say why.
 */
export function doubtAbout(as: string, principal: Principal, mesh: Mesh): string | undefined {
  if (!as.startsWith('staff:') || !principal.user) return undefined;
  const grants = [...readFileSync(mesh.policy, 'utf8').matchAll(/^g,\s*user:(\S+),\s*role:(?:staff|admin)\s*$/gm)];
  const staff = grants.map((grant) => grant[1]!);
  if (staff.includes(principal.user)) return undefined;
  return `${mesh.policy} does not make ${principal.user} staff, only ${staff.join(' and ')}; the call is a customer's`;
}

export function certificateOf(mesh: Mesh, name: string): CertificateFiles {
  const files = mesh.certificates[name];
  if (typeof files !== 'object') throw new Error(`mesh.json names no certificate of ${name}; run make up again`);
  return files;
}

/** An access token for a user, signed with the development key of the mesh. */
export function tokenFor(user: string, mesh: Mesh): Promise<string> {
  const key = JSON.parse(readFileSync(mesh.tokens.key, 'utf8')) as JWK;
  return mintToken('', { subject: user, key });
}
