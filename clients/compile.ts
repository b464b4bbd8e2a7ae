// Compiles the clients and the modules of this repository that they import into one CommonJS implementation, and writes
// an ES module that gives its exports their names: a program that uses both has each class once.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const clientsDirectory = realpathSync(dirname(fileURLToPath(import.meta.url)));
const root = dirname(clientsDirectory);

/** The folders of the package for the files of the repository; the first match applies. */
const places: readonly (readonly [from: string, to: string])[] = [
  ['clients/', ''],
  ['services/runtime/', 'runtime/'],
  ['proto/gen/armature/', 'proto/'],
  ['proto/gen/google/', 'proto/google/'],
  ['proto/', 'proto/'],
];

/** The oldest Node that `engines` allows: an API that it lacks does not type-check. */
const options = {
  noEmit: false,
  noEmitOnError: true,
  allowImportingTsExtensions: false,
  declaration: true,
  // It refuses import and export in CommonJS modules.
  verbatimModuleSyntax: false,
  target: 'es2022',
  lib: ['es2023', 'es2024.string'],
};

/**
 * Fills `target`, a folder below the repository, with a CommonJS module and its declarations for every file that
 * index.ts imports, directly or not, and with index.mjs. Returns the names of the packages that these need. On a compiler error it throws
 * the compiler's messages and removes `target`.
 */
export function compile(target: string): Set<string> {
  rmSync(target, { recursive: true, force: true });
  const staged = join(target, 'source');
  try {
    const packages = stage(join(clientsDirectory, 'index.ts'), staged);
    const config = {
      extends: relative(staged, join(root, 'tsconfig.json')),
      compilerOptions: { ...options, rootDir: '.', outDir: '..' },
      files: ['index.ts'],
      include: [],
    };
    writeFileSync(join(staged, 'tsconfig.json'), JSON.stringify(config));
    for (const folder of [staged, target]) writeFileSync(join(folder, 'package.json'), '{ "type": "commonjs" }\n');
    runCompiler(staged);
    rmSync(staged, { recursive: true });
    writeModule(target);
    return packages;
  } catch (error) {
    rmSync(target, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Copies the file and all files that it imports to their folders, with adapted imports. The imports name the compiled
 * files: the compiler would rewrite them in modules, but not in declarations.
 */
function stage(entry: string, staged: string): Set<string> {
  const packages = new Set<string>();
  const files = new Set([entry]);
  for (const file of files) {
    const place = placeOf(file);
    const require = createRequire(file);
    const text = readFileSync(file, 'utf8').replace(importPattern, (whole, keyword, quote, specifier: string) => {
      if (!/^(\.|@armature\/)/.test(specifier)) {
        if (!specifier.startsWith('node:')) packages.add(packageOf(specifier));
        return whole;
      }
      const imported = realpathSync(require.resolve(specifier));
      files.add(imported);
      const path = relative(dirname(place), placeOf(imported)).replace(/\.ts$/, '.js');
      return `${keyword}${quote}${path.startsWith('.') ? path : `./${path}`}${quote}`;
    });
    mkdirSync(dirname(join(staged, place)), { recursive: true });
    writeFileSync(join(staged, place), text);
  }
  return packages;
}

/** An import that this does not see keeps its old path, so that the compiler refuses it. */
const importPattern = /(\bfrom\s*|\bimport\s*\(?\s*)(['"])([^'"\n]+)\2/g;

function placeOf(file: string): string {
  const path = relative(root, file);
  const found = places.find(([from]) => path.startsWith(from));
  if (!found) throw new Error(`${path} is reached from clients/index.ts, but has no place in the package`);
  return found[1] + path.slice(found[0].length);
}

/** "@bufbuild/protobuf" of "@bufbuild/protobuf/wire". */
function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** The names are written out, because those that Node and bundlers find in a CommonJS module by themselves may differ. */
function writeModule(target: string): void {
  const names = Object.keys(createRequire(import.meta.url)(join(target, 'index.js')));
  const module = `import clients from './index.js';\n\nexport const {\n  ${names.join(',\n  ')},\n} = clients;\n`;
  writeFileSync(join(target, 'index.mjs'), module);
  writeFileSync(join(target, 'index.d.mts'), "export * from './index.js';\n");
}

function runCompiler(project: string): void {
  const tsc = join(root, 'node_modules', '.bin', 'tsc');
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [tsc, '-p', project], { encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`the clients do not compile:\n${stdout}${stderr}`);
}
