import { accessClient } from '@armature/clients';
import { addressOf, runningMesh } from '../../devmesh/running-mesh.ts';
import { certificateOf, parsePrincipal } from '../call/principal.ts';
import { tokenFor } from '../call/tokens.ts';
import type { Invocation } from '../command.ts';
import { withNotice } from '../terminal.ts';

export type AccessClient = ReturnType<typeof accessClient>;

/** Calls the running access service as a principal. */
export async function withAccess<T>(
  as: string,
  { deadline }: Invocation,
  work: (client: AccessClient) => Promise<T>,
): Promise<T> {
  const principal = parsePrincipal(as);
  const mesh = runningMesh();
  const { cert, key } = certificateOf(mesh, principal.workload);
  const token = principal.owner ? await tokenFor(principal.owner, mesh) : undefined;
  const tls = { certFile: cert, keyFile: key, caFile: mesh.certificates.ca };
  const client = accessClient({ addresses: [addressOf(mesh, 'access')], tls, token: () => token });
  deadline.waitingFor = 'access';
  try {
    return await withNotice('access', () => work(client));
  } finally {
    client.close();
  }
}
