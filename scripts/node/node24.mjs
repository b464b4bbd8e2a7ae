// Runs a TypeScript program of this repository on Node 24, whatever Node started us: npm starts its
// scripts with the Node it runs on itself, which may be older than the one the project brings.
import { spawnSync } from 'node:child_process';
import { existsSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const brought = linkBroughtNode();
const candidates = brought ? [brought, process.execPath] : [process.execPath];
const node = candidates.find(isNewEnough);
if (!node) {
  const found = candidates.map((path) => `${path} (${versionOf(path) || 'does not run'})`).join(', ');
  console.error(
    `armature needs Node 24.14 or newer; found ${found}. Install it from https://nodejs.org and run npm ci again.`,
  );
  process.exit(1);
}
const run = spawnSync(node, process.argv.slice(2), { stdio: 'inherit', cwd: root });
process.exit(run.status ?? 1);

/**
 * Finds the Node that an optional dependency brings, and puts it on node_modules/.bin where npm did not:
 * npm 10 leaves the link out because the package for the other processor, which it does not install,
 * claims the same name first (the `seen` set of its bin-links). Can go when npm 11 is the oldest in use.
 */
function linkBroughtNode() {
  const name = `node-${process.platform}-${process.arch}`;
  if (!existsSync(join(root, 'node_modules', name, 'bin', 'node'))) return undefined;
  const link = join(root, 'node_modules', '.bin', 'node');
  if (!existsSync(link)) symlinkSync(join('..', name, 'bin', 'node'), link);
  return link;
}

function versionOf(path) {
  return spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout?.trim();
}

/** 24.14 is the first that has the fixes of the HTTP/2 server which we stand on. */
function isNewEnough(path) {
  const [major = 0, minor = 0] = (versionOf(path) ?? '').slice(1).split('.').map(Number);
  return major > 24 || (major === 24 && minor >= 14);
}
