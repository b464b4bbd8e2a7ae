import { servicePlans } from '../../../services/manifest.ts';
import { broken, verify } from '../../../test/verification/invariants/invariants.ts';
import { openShopData } from '../../../test/verification/invariants/shop-data.ts';
import { serviceAccounts, withConnection } from '../../devmesh/provision.ts';
import { runningMesh } from '../../devmesh/running-mesh.ts';
import { presentServices } from '../../devmesh/services.ts';
import type { Invocation } from '../command.ts';
import { printJson } from '../json.ts';
import { assertResponding } from '../silence.ts';
import { paint, withNotice } from '../terminal.ts';

/** What is under way may take this long: the time limit of a checkout, and what comes after its pivot. */
const graceSeconds = 180;

/** Checks every invariant of the running mesh. The exit code is 1 where one is broken. */
export async function verifyMesh({ json, deadline }: Invocation): Promise<void> {
  const mesh = runningMesh();
  if (!mesh.acquirer?.http) throw new Error('the acquirer does not run; armature status tells more');
  const acquirerUrl = `http://${mesh.acquirer.http}`;
  const stores = presentServices().filter((name) => servicePlans[name].stores);
  const schemas = Object.fromEntries(stores.map((name) => [name, serviceAccounts(name).schema]));
  deadline.waitingFor = 'database and acquirer';
  await assertResponding(['mysql', 'acquirer']);
  deadline.waitingFor = 'the queries of the invariants';
  const verdicts = await withNotice(deadline.waitingFor, () =>
    withConnection(mesh.mysql.url, (connection) =>
      verify(openShopData({ connection, schemas, acquirerUrl, graceSeconds })),
    ),
  );
  const wrong = broken(verdicts);
  process.exitCode = wrong.length > 0 ? 1 : 0;
  if (json) {
    const invariants = verdicts.map(({ invariant: { id, name, meaning }, found }) => ({ id, name, meaning, found }));
    printJson({ holds: wrong.length === 0, invariants });
    return;
  }
  for (const { invariant, found } of verdicts) {
    const { id, name, meaning } = invariant;
    const mark = found.length === 0 ? paint('green', 'ok') : paint(['bold', 'red'], '!!');
    console.log(`  ${mark} ${id.padEnd(4)}${name}${found.length > 0 ? `: ${meaning}` : ''}`);
  }
  for (const line of wrong) console.error(`\n${line}`);
  console.log(`\n${verdicts.length - wrong.length} of ${verdicts.length} invariants hold`);
}
