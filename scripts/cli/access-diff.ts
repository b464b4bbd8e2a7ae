// Says what a change of policy or contracts opens and closes between a commit and the working tree:
// make access-diff BASE=<commit>. Ends with 0 when nobody may more than before, with 1 when somebody may, and with 2
// when there was nothing to compare.

import { commitNamed, mainBranches } from '../checks/archive.ts';
import { repository } from '../devmesh/state.ts';
import { difference, opens, renderDifference } from './access/difference.ts';
import { sideOf, sideOfCommit } from './access/side.ts';

function main(wanted: string | undefined, checkout: string): void {
  const base = commitNamed(checkout, wanted ? [wanted] : mainBranches);
  if (!base) throw new Error(wanted ? `there is no commit ${wanted}` : 'there is no main here; name a commit by BASE=');
  const found = difference(sideOfCommit(checkout, base), sideOf(checkout));
  console.log(renderDifference(found, base).join('\n'));
  process.exitCode = opens(found) ? 1 : 0;
}

try {
  main(process.argv[2], process.argv[3] ?? repository);
} catch (error) {
  for (let e: unknown = error; e instanceof Error; e = e.cause) console.error(`access-diff: ${e.message}`);
  process.exitCode = 2;
}
