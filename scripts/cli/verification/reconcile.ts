import { ledgerClient } from '@armature/clients';
import { Difference } from '@armature/proto/payments/v1/ledger.ts';
import { addressOf, runningMesh } from '../../devmesh/running-mesh.ts';
import { certificateOf, parsePrincipal } from '../call/principal.ts';
import { tokenFor } from '../call/tokens.ts';
import type { Invocation } from '../command.ts';
import { printJson } from '../json.ts';
import { compareBooks, tableOf } from '../reconcile/pages.ts';
import { terminalWidth, withNotice } from '../terminal.ts';

/** What is younger may be under way. */
const graceSeconds = 30;

/**
 * Compares the ledger with the acquirer's log, as an administrator; with `apply` resolves what can be resolved. The exit
 * code is 1 where they still differ. Payments does all of it: no table is read here.
 */
export async function reconcile({ apply = false }: { apply?: boolean }, { json, deadline }: Invocation): Promise<void> {
  const mesh = runningMesh();
  const token = await tokenFor(parsePrincipal('admin').owner!, mesh);
  const { cert, key } = certificateOf(mesh, 'developer');
  const tls = { certFile: cert, keyFile: key, caFile: mesh.certificates.ca };
  const client = ledgerClient({ addresses: [addressOf(mesh, 'payments')], tls, token: () => token });
  deadline.waitingFor = 'payments to compare the ledger with the log of the acquirer';
  try {
    const { compared, differences } = await withNotice(deadline.waitingFor, () =>
      compareBooks(client, { apply, graceSeconds }),
    );
    const left = differences.filter((difference) => !difference.resolved).length;
    process.exitCode = left > 0 ? 1 : 0;
    if (json) {
      printJson({
        applied: apply,
        compared,
        resolved: differences.length - left,
        differences: differences.map(Difference.toJSON),
      });
      return;
    }
    if (differences.length > 0) for (const line of tableOf(differences, terminalWidth())) console.log(line);
    console.log(`${compared} compared, ${differences.length} differ, ${differences.length - left} resolved`);
    if (left > 0 && !apply) console.log('nothing was changed; --apply resolves outcomes that are missing');
  } finally {
    client.close();
  }
}
