import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { driverUrl, withCa } from '@armature/runtime/credentials';
import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise';
import { certificateFiles } from '../certificates.ts';
import { plainState } from '../plain-path.ts';
import { portFor } from '../ports.ts';
import { isAlive, launch, type ProcessIdentity } from '../processes.ts';
import { password, readJson, type State, tail, writeAtomically } from '../state.ts';
import { findProgram } from './programs.ts';
import { type StartingServer, waitUntilUsable } from './start-up.ts';

const startDeadlineMs = 60_000;
const initializeTimeoutMs = 120_000;
const admin = 'armature_admin';

/** Where an instance of ours stands: what `up` must know to find it again, and `down` to stop it. */
export interface MysqlInstance {
  port: number;
  process: ProcessIdentity;
}

export const mysqlLog = (state: State) => join(state.dir, 'logs', 'mysql.log');
const instanceFile = (state: State) => join(state.dir, 'mysql', 'instance.json');

export function mysqlInstance(state: State): MysqlInstance | undefined {
  return readJson<MysqlInstance>(instanceFile(state));
}

export function mysqlAdminUrl(state: State, port: number): string {
  const url = `mysql://${admin}:${password(state, `mysql:${admin}`)}@127.0.0.1:${port}/`;
  return withCa(url, certificateFiles(state, 'ca').cert);
}

/** Starts the private MariaDB or MySQL unless it runs already. Returns the administrator's URL when it is ready. */
export async function startMysql(
  state: State,
  program: string,
  preferredPort: number | undefined,
  waitingFor: (what: string) => void = () => undefined,
): Promise<string> {
  const known = mysqlInstance(state);
  const running = known !== undefined && isAlive(known.process);
  const port = await portFor(state, 'mysql', preferredPort, running);
  const url = mysqlAdminUrl(state, port);
  let instance = known;
  if (!running) {
    const plain = plainState(state);
    initialize(plain, program);
    writeAtomically(join(state.dir, 'mysql', 'my.cnf'), settings(plain, port), 0o600);
    writeAtomically(join(state.dir, 'mysql', 'accounts.sql'), accounts(state), 0o600);
    instance = { port, process: launchMysql(plain, program) };
    writeAtomically(instanceFile(state), JSON.stringify(instance, null, 2), 0o600);
  }
  await ready(state, url, { process: instance!.process, waitingFor });
  if (running) await reloadCertificates(url);
  return url;
}

function launchMysql(state: State, program: string): ProcessIdentity {
  return launch({
    command: program,
    args: [`--defaults-file=${join(state.dir, 'mysql', 'my.cnf')}`],
    env: { PATH: process.env.PATH, HOME: join(state.dir, 'mysql') },
    cwd: join(state.dir, 'mysql'),
    log: mysqlLog(state),
  });
}

/** Makes the data folder under another name first, so that one that was interrupted is never taken for a whole one. */
function initialize(state: State, program: string): void {
  const data = join(state.dir, 'mysql', 'data');
  if (existsSync(data)) return;
  const draft = `${data}.new`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { recursive: true, mode: 0o700 });
  mkdirSync(dirname(mysqlLog(state)), { recursive: true });
  const [command, args] = initializer(program, draft);
  const log = openSync(mysqlLog(state), 'a', 0o600);
  const run = spawnSync(command, args, { stdio: ['ignore', log, log], cwd: draft, timeout: initializeTimeoutMs });
  closeSync(log);
  if (run.status !== 0) {
    throw new Error(
      `${command} could not make the data folder ${draft}; the end of ${mysqlLog(state)}:\n${tail(mysqlLog(state))}`,
    );
  }
  renameSync(draft, data);
}

function initializer(program: string, data: string): [string, string[]] {
  // Only root may, and must, name the user. A user id without a name is then no problem.
  const user = isRoot() ? ['--user=root'] : [];
  const version = spawnSync(program, ['--no-defaults', '--version'], { encoding: 'utf8' }).stdout ?? '';
  if (!/mariadb/i.test(version)) {
    // Root has no password until the first start, which sets one from accounts.sql before it listens.
    return [program, ['--no-defaults', '--initialize-insecure', `--datadir=${data}`, ...user]];
  }
  const install = findProgram(['mariadb-install-db', 'mysql_install_db']);
  if (!install)
    throw new Error(`${program} is here but mariadb-install-db is not; install the package mariadb-server-core`);
  const options = ['--auth-root-authentication-method=socket', '--skip-test-db', '--skip-name-resolve'];
  return [install, ['--no-defaults', ...options, `--datadir=${data}`, ...user]];
}

const isRoot = (): boolean => process.getuid?.() === 0;

/** InnoDB writes each commit to the file system but does not wait for the disk; nor does the log of schema changes. */
const withoutFsync = `innodb-flush-method = nosync
loose-debug-no-sync
`;

/** Understood by MariaDB 10.11 and MySQL 8.4 alike; `loose-` options are for one of them. */
function settings(state: State, port: number): string {
  const dir = join(state.dir, 'mysql');
  const files = certificateFiles(state, 'mysql');
  return `[mysqld]
${isRoot() ? 'user = root\n' : ''}datadir = ${join(dir, 'data')}
socket = ${socketPath(state)}
pid-file = ${join(dir, 'mysql.pid')}
tmpdir = ${temporaryFolder(state)}
init-file = ${join(dir, 'accounts.sql')}
bind-address = 127.0.0.1
port = ${port}
require-secure-transport = ON
tls-version = TLSv1.2,TLSv1.3
ssl-ca = ${certificateFiles(state, 'ca').cert}
ssl-cert = ${files.cert}
ssl-key = ${files.key}
skip-name-resolve
skip-log-bin
local-infile = 0
loose-mysqlx = 0
loose-performance-schema = 0
character-set-server = utf8mb4
collation-server = utf8mb4_bin
default-time-zone = '+00:00'
transaction-isolation = READ-COMMITTED
innodb-flush-log-at-trx-commit = 1
innodb-buffer-pool-size = 256M
max-connections = 400
${state.fsync ? '' : withoutFsync}`;
}

/** Of its own: at its start a server deletes the temporary tables that it finds, those of other servers too. */
function temporaryFolder(state: State): string {
  const folder = join(state.dir, 'mysql', 'tmp');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return folder;
}

/** A socket's path may have some hundred bytes; a checkout's path can be longer. We use TCP, so it may lie elsewhere. */
function socketPath(state: State): string {
  const inside = join(state.dir, 'mysql', 'mysql.sock');
  return inside.length < 100 ? inside : `/tmp/armature-${password(state, state.dir).slice(0, 12)}.sock`;
}

/** Run by the server at each start, before it takes connections: no account is ever without a password. */
function accounts(state: State): string {
  const secret = password(state, `mysql:${admin}`);
  return [
    `ALTER USER 'root'@'localhost' IDENTIFIED BY '${secret}';`,
    `CREATE USER IF NOT EXISTS '${admin}'@'%' IDENTIFIED BY '${secret}' REQUIRE SSL;`,
    `ALTER USER '${admin}'@'%' IDENTIFIED BY '${secret}' REQUIRE SSL;`,
    `GRANT ALL PRIVILEGES ON *.* TO '${admin}'@'%' WITH GRANT OPTION;`,
    '',
  ].join('\n');
}

const ready = (state: State, url: string, starting: Pick<StartingServer, 'process' | 'waitingFor'>): Promise<void> =>
  waitUntilUsable({
    ...{ name: 'MySQL/MariaDB', ...starting, log: mysqlLog(state), deadlineMs: startDeadlineMs },
    probe: () => hardened(url),
  });

/**
 * Accounts that came with the installation and are not needed: those without a name, root from elsewhere, and
 * MariaDB's second root, which needs no password where the system's user is called mysql.
 */
async function hardened(url: string): Promise<void> {
  const connection = await connectMysql(url);
  try {
    const [rows] = await connection.query(
      "SELECT User AS name, Host AS host FROM mysql.user WHERE User IN ('', 'mysql') OR (User = 'root' AND Host <> 'localhost')",
    );
    for (const row of rows as { name: string; host: string }[]) {
      await connection.query('DROP USER IF EXISTS ?@?', [row.name, row.host]);
    }
  } finally {
    await connection.end();
  }
}

/** Connects by TLS, and verifies the server, where the URL names the CA bundle: `?ssl-ca=<file>`. */
export function connectMysql(url: string, connectTimeout = 5_000): Promise<Connection> {
  const { url: uri, driverOptions } = driverUrl(url);
  return createConnection({ uri, ...driverOptions, connectTimeout });
}

/** Makes the server show the certificate that its files hold now. Connections that are open stay as they are. */
export async function reloadCertificates(url: string): Promise<void> {
  const connection = await connectMysql(url);
  try {
    const [rows] = await connection.query<RowDataPacket[]>('SELECT VERSION() AS version');
    const isMariaDb = String(rows[0]?.version).includes('MariaDB');
    await connection.query(isMariaDb ? 'FLUSH SSL' : 'ALTER INSTANCE RELOAD TLS');
  } finally {
    await connection.end();
  }
}
