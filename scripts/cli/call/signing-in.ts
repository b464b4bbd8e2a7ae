import { identityClient } from '@armature/clients';
import { ResponseBodyError } from 'openid-client';
import type { Mesh } from '../../devmesh/mesh.ts';
import { commandLine, people, personPassword } from '../../devmesh/people.ts';
import { addressOf } from '../../devmesh/running-mesh.ts';
import { type IssuedToken, signInPerson, signInProgram } from '../../devmesh/sign-in/flows.ts';
import { httpsTo } from '../../devmesh/sign-in/https.ts';
import { ensureProgramAccount, programKey } from '../../devmesh/sign-in/program-account.ts';
import type { State } from '../../devmesh/state.ts';
import { certificateOf } from './principal.ts';
import { tokenFor } from './tokens.ts';

const httpsOf = (mesh: Mesh) => httpsTo('service:identity', mesh.certificates.ca);

/** Signs a person of scripts/devmesh/people.ts in. */
export function personToken(id: string, mesh: Mesh, state: State): Promise<IssuedToken> {
  const person = people.find((one) => one.id === id);
  if (!person) throw new Error(`no account of the name ${id} exists here`);
  const signing = { issuer: mesh.tokens.issuer, https: httpsOf(mesh), ...commandLine };
  return signInPerson({ ...signing, email: person.email, password: personPassword(state, id) });
}

/** Signs a program in. One that identity does not know yet gets its account from the administrator. */
export async function programToken(id: string, mesh: Mesh, state: State): Promise<IssuedToken> {
  const { key, publicJwk } = await programKey(state, id);
  const signing = { issuer: mesh.tokens.issuer, https: httpsOf(mesh), clientId: id, key };
  try {
    return await signInProgram(signing);
  } catch (error) {
    if (!(error instanceof ResponseBodyError && error.error === 'invalid_client')) throw error;
  }
  const { cert, key: keyFile } = certificateOf(mesh, 'developer');
  const tls = { certFile: cert, keyFile, caFile: mesh.certificates.ca };
  const client = identityClient({ addresses: [addressOf(mesh, 'identity')], tls });
  try {
    await ensureProgramAccount(client, id, publicJwk, await tokenFor({ kind: 'user', id: 'admin' }, mesh));
  } finally {
    client.close();
  }
  return signInProgram(signing);
}
