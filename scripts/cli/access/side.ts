import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withArchive } from '../../checks/archive.ts';
import { buf } from '../../protoc-gen-armature/buf.ts';
import type { Side } from './difference.ts';
import { doorsOf } from './doors.ts';
import { standingOf } from './standing.ts';

export type { Side };

const policyPath = join('deploy', 'policy.csv');

/** Contracts and policy as they lie in a folder, compiled anew. Throws with what buf or the policy's reader say. */
export function sideOf(folder: string, policyFile = join(folder, policyPath), name = policyPath): Side {
  const made = mkdtempSync(join(tmpdir(), 'armature-contracts-'));
  try {
    const file = join(made, 'descriptors.binpb');
    buf(folder, 'build', '--as-file-descriptor-set', '--output', file);
    return { doors: doorsOf(readFileSync(file)), standing: standingOf(readFileSync(policyFile, 'utf8'), name) };
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
}

/** Contracts and policy of a commit. */
export function sideOfCommit(checkout: string, commit: string): Side {
  return withArchive(checkout, commit, ['buf.yaml', 'proto', policyPath], (folder) =>
    sideOf(folder, join(folder, policyPath), `${commit}:${policyPath}`),
  );
}
