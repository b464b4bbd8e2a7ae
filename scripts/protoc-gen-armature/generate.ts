// Generates proto/gen from the contracts: messages, contract tables and the descriptor set.
// Everything is made in a folder of its own first and then put in place at once, so that a run that
// fails leaves what was there, and a program that starts meanwhile finds all or nothing of the new.
import { globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buf, root } from './buf.ts';
import { addEnumNames } from './enum-names.ts';
import { refuseStrayTags } from './strict-decoding.ts';

const target = join(root, 'proto', 'gen');
const workshop = join(root, `.run-gen-${process.pid}`);
const made = join(workshop, 'proto', 'gen');

/** Two concurrent runs may race for the folder: the last one wins, and both have generated the same files. */
function putInPlace(): void {
  for (let attempt = 1; ; attempt++) {
    try {
      renameSync(target, join(workshop, `previous-${attempt}`));
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
    try {
      renameSync(made, target);
      return;
    } catch (error) {
      if (attempt === 5 || !(hasCode(error, 'ENOTEMPTY') || hasCode(error, 'EEXIST'))) throw error;
    }
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

const startedMs = performance.now();
try {
  mkdirSync(workshop);
  buf(root, 'generate', '--output', workshop);
  for (const module of globSync(join(made, '**', '*.ts'))) {
    writeFileSync(module, refuseStrayTags(addEnumNames(readFileSync(module, 'utf8'))));
  }
  buf(root, 'build', '--as-file-descriptor-set', '--output', join(made, 'descriptors.binpb'));
  putInPlace();
  console.log(`generated proto/gen in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
} catch (error) {
  console.error(`generation failed, proto/gen is as it was.\n${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  rmSync(workshop, { recursive: true, force: true });
}
