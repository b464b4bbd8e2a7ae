import { certificateFiles } from '../../scripts/devmesh/certificates.ts';
import { identityTrust } from '../../scripts/devmesh/environment.ts';
import { commandLine, people, personPassword } from '../../scripts/devmesh/people.ts';
import { signInPerson } from '../../scripts/devmesh/sign-in/flows.ts';
import { httpsTo } from '../../scripts/devmesh/sign-in/https.ts';
import { testServers } from './infra.ts';
import type { Mesh } from './service.ts';

/** Signs one of scripts/devmesh/people.ts in to a mesh with `realIdentity`, and returns the access token. */
export async function signIn(mesh: Mesh, id: string): Promise<string> {
  const person = people.find((one) => one.id === id);
  if (!person || !mesh.identity) throw new Error(`${id} cannot sign in: no such person, or no identity in the mesh`);
  const { state } = await testServers();
  const { token } = await signInPerson({
    ...commandLine,
    issuer: identityTrust(mesh.identity.http).issuer,
    https: httpsTo('service:identity', certificateFiles(state, 'ca').cert),
    email: person.email,
    password: personPassword(state, id),
  });
  return token;
}
