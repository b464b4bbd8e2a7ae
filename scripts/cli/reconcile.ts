// Compares the ledger with the acquirer's log, as an administrator; APPLY=1 resolves what can be resolved. Status 1
// where they still differ. It asks payments for all of it, and touches no table itself.
import { ledgerClient } from '@armature/clients';
import { fail } from '../devmesh/progress.ts';
import { addressOf, runningMesh } from '../devmesh/running-mesh.ts';
import { certificateOf, parsePrincipal } from './call/principal.ts';
import { tokenFor } from './call/tokens.ts';
import { compareBooks, tableOf } from './reconcile/pages.ts';

/** What is younger may be under way. */
const graceSeconds = 30;

async function main(apply: boolean): Promise<void> {
  const mesh = runningMesh();
  const { owner } = parsePrincipal('admin', mesh);
  if (!owner) throw new Error('an administrator signs in, and this one cannot');
  const token = await tokenFor(owner, mesh);
  const { cert, key } = certificateOf(mesh, 'developer');
  const tls = { certFile: cert, keyFile: key, caFile: mesh.certificates.ca };
  const client = ledgerClient({ addresses: [addressOf(mesh, 'payments')], tls, token: () => token });
  try {
    const { compared, differences } = await compareBooks(client, { apply, graceSeconds });
    const left = differences.filter((difference) => !difference.resolved).length;
    if (differences.length > 0) for (const line of tableOf(differences)) console.log(line);
    console.log(`${compared} compared, ${differences.length} differ, ${differences.length - left} resolved`);
    if (left > 0 && !apply) console.log('nothing was changed; APPLY=1 resolves outcomes that are missing');
    process.exitCode = left > 0 ? 1 : 0;
  } finally {
    client.close();
  }
}

await main(process.env.APPLY === '1').catch(fail);
