import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { policyFile } from '../../devmesh/environment.ts';
import { printJson } from '../json.ts';
import type { Format } from '../table.ts';
import { terminalWidth } from '../terminal.ts';
import { doorsOf } from './doors.ts';
import { matrixOf, renderMatrices } from './matrix.ts';
import { standingOf } from './standing.ts';

/** Prints who may call and publish what, from the contracts and a policy: deploy/policy.csv, or another file. */
export function printMatrix({ file, format, json }: { file?: string; format: Format; json: boolean }): void {
  const path = file ?? policyFile;
  const descriptors = readFileSync(fileURLToPath(import.meta.resolve('@armature/proto/descriptors.binpb')));
  const doors = doorsOf(descriptors);
  const standing = standingOf(readPolicy(path), path);
  if (!json) {
    console.log(renderMatrices(doors, standing, format, terminalWidth()).join('\n'));
    return;
  }
  const rows = (['method', 'event'] as const).flatMap((kind) => {
    const { principals, rows } = matrixOf(doors, standing, kind);
    return rows.map(({ door, access }) => ({
      ...door,
      access: Object.fromEntries(principals.map((principal, index) => [principal, access[index]])),
    }));
  });
  printJson(rows);
}

function readPolicy(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new Error(`--file ${path}: the policy cannot be read`, { cause });
  }
}
