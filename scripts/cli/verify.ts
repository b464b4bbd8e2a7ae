// Holds the running mesh to its invariants and says what breaks them; status 1 where anything does.

import { broken, verify } from '../../test/verification/invariants/invariants.ts';
import { openWorld } from '../../test/verification/invariants/world.ts';
import { fail } from '../devmesh/progress.ts';
import { serviceAccounts, withConnection } from '../devmesh/provision.ts';
import { runningMesh } from '../devmesh/running-mesh.ts';
import { presentServices, servicePlans } from '../devmesh/services.ts';

/** What is under way may take this long: the time limit of a checkout, and what comes after its pivot. */
const graceSeconds = 180;

async function main(): Promise<void> {
  const mesh = runningMesh();
  if (!mesh.acquirer?.http) throw new Error('the acquirer does not run; make status tells more');
  const acquirerUrl = `http://${mesh.acquirer.http}`;
  const stores = presentServices().filter((name) => servicePlans[name].stores);
  const schemas = Object.fromEntries(stores.map((name) => [name, serviceAccounts(name).schema]));
  const verdicts = await withConnection(mesh.mysql.url, (connection) =>
    verify(openWorld({ connection, schemas, acquirerUrl, graceSeconds })),
  );
  for (const { invariant, found } of verdicts) {
    const { id, name, meaning } = invariant;
    console.log(
      `  ${found.length === 0 ? 'ok' : '!!'} ${id.padEnd(4)}${name}${found.length > 0 ? `: ${meaning}` : ''}`,
    );
  }
  const wrong = broken(verdicts);
  for (const line of wrong) console.error(`\n${line}`);
  console.log(`\n${verdicts.length - wrong.length} of ${verdicts.length} invariants hold`);
  process.exitCode = wrong.length > 0 ? 1 : 0;
}

await main().catch(fail);
