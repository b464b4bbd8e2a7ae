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
/** Tests, benchmarks and the processes that tests start may import any folder. */
const isProduction = (path: string): boolean => path.endsWith('.ts') && !/(\.test|\.bench|-child)\.ts$/.test(path);

const folderOf = (path: string): string | undefined =>
  path.startsWith(root) ? path.slice(root.length).split('/').slice(0, -1)[0] : undefined;

/** The other folders of the runtime that a production file of the runtime imports. */
export function runtimeImports({ path, text }: SourceFile): string[] {
  const own = folderOf(path);
  if (own === undefined || !isProduction(path)) return [];
  const targets = imports(text)
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => folderOf(normalize(join(dirname(path), specifier))));
  return [...new Set(targets)].filter((folder) => folder !== undefined && folder !== own) as string[];
}

/** What is wrong with the imports of one file, by the order of the folders. */
export function runtimeBackEdges(file: SourceFile): string[] {
  const own = folderOf(file.path);
  const position = (folder: string) => (runtimeFolders as readonly string[]).indexOf(folder);
  if (own === undefined) return [];
  if (position(own) < 0) return [`folder ${own} is missing in test/support/runtime-folders.ts`];
  return runtimeImports(file)
    .filter((folder) => position(folder) > position(own))
    .map(
      (folder) =>
        `folder ${own} imports ${folder}, which may import ${own}: move the shared part to the earlier folder`,
    );
}
