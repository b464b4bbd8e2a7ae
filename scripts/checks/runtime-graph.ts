// Prints which folders of services/runtime import which others: make runtime-graph. Exits with 1 when an import runs
// against the order of test/support/runtime-folders.ts.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runtimeBackEdges, runtimeFolders, runtimeImports } from '../../test/support/runtime-folders.ts';
import { repository } from '../devmesh/state.ts';

const files = globSync('services/runtime/*/**/*.ts', { cwd: repository })
  .sort()
  .map((path) => ({ path, text: readFileSync(join(repository, path), 'utf8') }));

for (const folder of runtimeFolders) {
  const own = files.filter(({ path }) => path.startsWith(`services/runtime/${folder}/`));
  const imported = new Set(own.flatMap(runtimeImports));
  const inOrder = runtimeFolders.filter((other) => imported.has(other));
  if (own.length > 0) console.log(`${folder.padEnd(12)} ${inOrder.join(' ') || '-'}`);
}
const problems = files.flatMap((file) => runtimeBackEdges(file).map((problem) => `${file.path}: ${problem}`));
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
