// Prints who may call and publish what, from the contracts and deploy/policy.csv: make access-matrix. FILE= names
// another policy, FORMAT= is text, csv or md.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { policyFile } from '../devmesh/environment.ts';
import { fail } from '../devmesh/progress.ts';
import { doorsOf } from './access/doors.ts';
import { renderMatrices } from './access/matrix.ts';
import { standingOf } from './access/standing.ts';
import { didYouMean } from './call/nearest.ts';
import { formats } from './table.ts';

function main({ FILE: file = '', FORMAT: wanted = '' }: NodeJS.ProcessEnv): void {
  const format = formats.find((one) => one === (wanted || 'text'));
  if (!format) {
    throw new Error(`FORMAT=${wanted} is not known${didYouMean(wanted, formats)} It is one of ${formats.join(', ')}.`);
  }
  const path = file || policyFile;
  const descriptors = readFileSync(fileURLToPath(import.meta.resolve('@armature/proto/descriptors.binpb')));
  console.log(renderMatrices(doorsOf(descriptors), standingOf(readPolicy(path), path), format).join('\n'));
}

function readPolicy(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new Error(`FILE=${path}: the policy cannot be read`, { cause });
  }
}

try {
  main(process.env);
} catch (error) {
  fail(error);
}
