import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { imports, type SourceFile } from './source-file.ts';

/** The folders of services/runtime in dependency order: a folder imports only folders that stand before it. */
export const runtimeFolders = [
  'config',
  'id',
  'time',
  'money',
  'sync',
  'errors',
  'context',
  'telemetry',
  'credentials',
  'http',
  'db',
  'authz',
  'idempotency',
  'rpc',
  'messaging',
  'saga',
  'jobs',
  'ops',
  'migrations',
  'service',
  'testing',
] as const;

const root = 'services/runtime/';
const exported: Record<string, string> = JSON.parse(
  readFileSync(new URL('../../services/runtime/package.json', import.meta.url), 'utf8'),
).exports;

/** Tests, benchmarks and the processes that tests start may import any folder. */
const isProduction = (path: string): boolean => path.endsWith('.ts') && !/(\.test|\.bench|-child)\.ts$/.test(path);

/** The folder of a file of the runtime: '' for its root entry, undefined for a file outside the runtime. */
const folderOf = (path: string): string | undefined =>
  path.startsWith(root) ? (path.slice(root.length).split('/').slice(0, -1)[0] ?? '') : undefined;

/** The file that an import names; an entry of @armature/runtime is looked up in its package.json. */
function targetOf(path: string, specifier: string): string {
  if (specifier.startsWith('.')) return normalize(join(dirname(path), specifier));
  const [scope, name, ...rest] = specifier.split('/');
  if (`${scope}/${name}` !== '@armature/runtime') return specifier;
  const entry = ['.', ...rest].join('/');
  return join(root, exported[entry] ?? entry);
}

/** The other folders of the runtime that a production file of the runtime imports; '' is the root entry. */
export function runtimeImports({ path, text }: SourceFile): string[] {
  const own = folderOf(path);
  if (!own || !isProduction(path)) return [];
  const targets = imports(text).map((specifier) => folderOf(targetOf(path, specifier)));
  return [...new Set(targets)].filter((folder) => folder !== undefined && folder !== own) as string[];
}

/** What is wrong with the imports of one file, by the order of the folders. */
export function runtimeBackEdges(file: SourceFile): string[] {
  const own = folderOf(file.path);
  const position = (folder: string) => (runtimeFolders as readonly string[]).indexOf(folder);
  if (!own) return [];
  if (position(own) < 0) return [`folder ${own} is missing in test/support/runtime-folders.ts`];
  return runtimeImports(file).flatMap((folder) => {
    if (folder === '')
      return [`folder ${own} imports the root entry, which loads every folder: import the file itself`];
    if (position(folder) <= position(own)) return [];
    return [`folder ${own} imports ${folder}, which may import ${own}: move the shared part to the earlier folder`];
  });
}
