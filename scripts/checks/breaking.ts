// Says whether the contracts would break those who call us as of the branch main. Compares with what
// origin/main has, or else main; a checkout that has neither has nothing to compare with.

import { buf, root } from '../protoc-gen-armature/buf.ts';
import { commitNamed, git, mainBranches, withArchive } from './archive.ts';

const wanted = process.argv[2];
const base = commitNamed(root, wanted ? [wanted] : mainBranches);

if (wanted && !base) {
  console.error(`breaking: there is no commit ${wanted}`);
  process.exitCode = 1;
} else if (!base || !git(root, 'cat-file', '-e', `${base}:buf.yaml`).ok) {
  console.log('breaking: no main with contracts here to compare with, skipped');
} else {
  try {
    withArchive(root, base, ['buf.yaml', 'proto'], (archived) => buf(root, 'breaking', '--against', archived));
    console.log(`breaking: nothing breaks callers of ${base}`);
  } catch (error) {
    console.error(`against ${base}: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}
