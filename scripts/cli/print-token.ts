// Prints an access token of a person or a program, for buf curl, grpcurl and other programs: AS=customer:ada. They sign
// in to identity for it; a token is good for ten minutes, and used again while a minute is left.

import { fail } from '../devmesh/progress.ts';
import { runningMesh } from '../devmesh/running-mesh.ts';
import { doubtAbout, parsePrincipal } from './call/principal.ts';
import { tokenFor } from './call/tokens.ts';

async function main(as: string): Promise<void> {
  const mesh = runningMesh();
  const principal = parsePrincipal(as, mesh);
  if (!principal.owner)
    throw new Error(`AS=${as} calls without a token; name somebody who signs in, such as AS=customer:ada`);
  const doubt = doubtAbout(as, principal, mesh);
  if (doubt) console.error(`note: ${doubt}`);
  console.log(await tokenFor(principal.owner, mesh));
}

await main(process.env.AS || 'customer:ada').catch(fail);
