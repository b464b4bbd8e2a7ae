import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withArchive } from '../../checks/archive.ts';
import { buf } from '../../protoc-gen-armature/buf.ts';
import type { Snapshot } from './difference.ts';
import { effectiveAccessOf } from './effective-access.ts';
import { operationsOf } from './operations.ts';

export type { Snapshot };

const policyPath = join('deploy', 'policy.csv');

/** Contracts and policy as they lie in a folder, compiled anew. Throws with what buf or the policy's reader say. */
export function snapshotOf(folder: string, policyFile = join(folder, policyPath), name = policyPath): Snapshot {
  const made = mkdtempSync(join(tmpdir(), 'armature-contracts-'));
  try {
    const file = join(made, 'descriptors.binpb');
    buf(folder, 'build', '--as-file-descriptor-set', '--output', file);
    return {
      operations: operationsOf(readFileSync(file)),
      effective: effectiveAccessOf(readFileSync(policyFile, 'utf8'), name),
    };
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
}

/** Contracts and policy of a commit. */
export function snapshotOfCommit(checkout: string, commit: string): Snapshot {
  return withArchive(checkout, commit, ['buf.yaml', 'proto', policyPath], (folder) =>
    snapshotOf(folder, join(folder, policyPath), `${commit}:${policyPath}`),
  );
}
