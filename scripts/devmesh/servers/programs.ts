import { accessSync, constants, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Where Debian and others put servers that are not on an ordinary user's PATH. */
const serverFolders = [
  '/usr/sbin',
  '/usr/local/sbin',
  '/sbin',
  '/usr/local/bin',
  '/opt/homebrew/bin',
  '/opt/homebrew/sbin',
];

/** The full path of the first of these programs that this machine has. */
export function findProgram(names: readonly string[], extraFolders: readonly string[] = []): string | undefined {
  const folders = [...extraFolders, ...(process.env.PATH ?? '').split(delimiter).filter(Boolean), ...serverFolders];
  for (const name of names) {
    for (const folder of folders) {
      const path = join(folder, name);
      if (isExecutable(path)) return path;
    }
  }
  return undefined;
}

/** The folders under `parent` whose names begin so; none when there is no such parent. */
export function foldersLike(parent: string, prefix: string): string[] {
  try {
    return readdirSync(parent)
      .filter((name) => name.startsWith(prefix))
      .map((name) => join(parent, name));
  } catch {
    return [];
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export interface ServerPrograms {
  /** mariadbd, or mysqld where there is no mariadbd. */
  mysql: string | undefined;
  /** The script that becomes the broker: the packaged wrapper in front of it would change the user. */
  rabbitmq: string | undefined;
  /** RabbitMQ needs Erlang's port mapper; ours runs on a port of its own. */
  epmd: string | undefined;
}

export function findServerPrograms(): ServerPrograms {
  const erlang = foldersLike('/usr/lib/erlang', 'erts-').map((folder) => join(folder, 'bin'));
  const rabbit = foldersLike('/usr/lib/rabbitmq/lib', 'rabbitmq_server-').map((folder) => join(folder, 'sbin'));
  return {
    mysql: findProgram(['mariadbd', 'mysqld']),
    rabbitmq: findProgram(['rabbitmq-server'], ['/usr/lib/rabbitmq/bin', ...rabbit]),
    epmd: findProgram(['epmd'], erlang),
  };
}
