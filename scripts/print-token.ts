// Prints an access token of a user for an hour, for buf curl, grpcurl and other programs: AS=customer:ada.
import { doubtAbout, parsePrincipal, tokenFor } from './call/principal.ts';
import { runningMesh } from './call/running-mesh.ts';
import { fail } from './progress.ts';

async function main(as: string): Promise<void> {
  const mesh = runningMesh();
  const principal = parsePrincipal(as, mesh);
  if (!principal.user) throw new Error(`AS=${as} calls without a token; name a user, such as AS=customer:ada`);
  const doubt = doubtAbout(as, principal, mesh);
  if (doubt) console.error(`note: ${doubt}`);
  console.log(await tokenFor(principal.user, mesh));
}

await main(process.env.AS || 'customer:ada').catch(fail);
