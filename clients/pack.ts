// Runs before and after `npm pack`. In the repository this package is TypeScript that depends on other workspaces. The
// published package is compiled and depends on published packages only. npm reads package.json only from this folder,
// so the published one is here while npm packs:
//   node clients/pack.ts             compiles to dist/, and writes the published package.json
//   node clients/pack.ts --restore   restores the package.json of the repository, and removes dist/
import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { clientsDirectory, compile } from './compile.ts';

const at = (path: string) => join(clientsDirectory, path);
const dist = at('dist');
const manifest = at('package.json');
const license = at('LICENSE');
/** In a folder that git ignores and npm does not pack. */
const kept = at('dist/package.json.kept');

interface Manifest {
  name: string;
  version: string;
  description: string;
  license: string;
  engines: Record<string, string>;
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
}

const read = (path: string): Manifest => JSON.parse(readFileSync(at(path), 'utf8'));

/** An interrupted run leaves the published package.json here; the next run restores it first. */
function restore(): void {
  if (!existsSync(kept)) return;
  renameSync(kept, manifest);
  rmSync(license, { force: true });
}

function prepare(): void {
  restore();
  const packages = compile(dist);
  const packed = `${JSON.stringify(packedManifest(read('package.json'), packages), null, 2)}\n`;
  copyFileSync(manifest, kept);
  copyFileSync(at('../LICENSE'), license);
  writeFileSync(at('dist/package.json.next'), packed);
  renameSync(at('dist/package.json.next'), manifest);
}

/**
 * The published package allows patch versions of its dependencies, so it has ranges. It keeps the scripts, because
 * after an interrupted run they let npm restore the package.json.
 */
function packedManifest(own: Manifest, packages: ReadonlySet<string>) {
  const { name, version, description, license, engines, scripts } = own;
  const versions = {
    ...read('../proto/package.json').dependencies,
    ...read('../services/runtime/package.json').dependencies,
  };
  const dependencies = [...packages].sort().map((needed) => {
    const known = { ...versions, ...own.dependencies }[needed];
    if (!known) throw new Error(`${needed} is imported by what is packed, but no package.json says which version`);
    return [needed, `^${known}`];
  });
  return {
    name,
    version,
    description,
    license,
    type: 'module',
    engines,
    sideEffects: false,
    main: './dist/index.js',
    types: './dist/index.d.ts',
    exports: {
      '.': {
        import: { types: './dist/index.d.mts', default: './dist/index.mjs' },
        default: { types: './dist/index.d.ts', default: './dist/index.js' },
      },
    },
    scripts,
    files: ['dist/**/*.js', 'dist/**/*.d.ts', 'dist/index.mjs', 'dist/index.d.mts', 'dist/package.json'],
    dependencies: Object.fromEntries(dependencies),
  };
}

if (process.argv[2] === '--restore') {
  restore();
  rmSync(dist, { recursive: true, force: true });
} else prepare();
