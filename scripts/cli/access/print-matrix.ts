import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { policyFile } from '../../devmesh/environment.ts';
import { printJson } from '../json.ts';
import type { Format } from '../table.ts';
import { terminalWidth } from '../terminal.ts';
import { effectiveAccessOf } from './effective-access.ts';
import { matrixOf, renderMatrices } from './matrix.ts';
import { operationsOf } from './operations.ts';

/** Prints who may call and publish what, from the contracts and a policy: deploy/policy.csv, or another file. */
export function printMatrix({ file, format, json }: { file?: string; format: Format; json: boolean }): void {
  const path = file ?? policyFile;
  const descriptors = readFileSync(fileURLToPath(import.meta.resolve('@armature/proto/descriptors.binpb')));
  const operations = operationsOf(descriptors);
  const effective = effectiveAccessOf(readPolicy(path), path);
  if (!json) {
    console.log(renderMatrices(operations, effective, format, terminalWidth()).join('\n'));
    return;
  }
  const rows = (['method', 'event'] as const).flatMap((kind) => {
    const { principals, rows } = matrixOf(operations, effective, kind);
    return rows.map(({ operation, access }) => ({
      ...operation,
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
