import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withCa } from '@armature/runtime/credentials';
import { certificateFiles, serverNames } from '../certificates.ts';
import { portFor } from '../ports.ts';
import { password, readJson, repository, type State, writeAtomically } from '../state.ts';
import { BrokerApi } from './broker-api.ts';
import { connectMysql, reloadCertificates } from './mysql.ts';
import { type BrokerUrls, brokerUrls } from './rabbitmq.ts';

/** The first start downloads images. */
const startDeadlineMs = 300_000;

const instanceFile = (state: State) => join(state.dir, 'docker.json');
const composeFile = join(repository, 'deploy', 'compose.yaml');

/** Whether a Docker engine responds, and has the compose plugin. */
export function hasDocker(): boolean {
  const succeeds = (args: string[]) => spawnSync('docker', args, { stdio: 'ignore', timeout: 10_000 }).status === 0;
  return succeeds(['info']) && succeeds(['compose', 'version']);
}

/** Whether `armature up` has started containers that were not stopped since. */
export function dockerStarted(state: State): boolean {
  return existsSync(instanceFile(state));
}

/** Starts the named servers of deploy/compose.yaml, or finds them running, and waits until they respond. */
export async function startContainers(
  state: State,
  wanted: { mysql: boolean; rabbitmq: boolean },
  preferred: { mysql?: number; rabbitmq?: number },
): Promise<{ mysql?: string; rabbitmq?: BrokerUrls }> {
  const ours = dockerStarted(state);
  const beside = preferred.rabbitmq === undefined ? undefined : preferred.rabbitmq + 1;
  const environment = {
    ARMATURE_COMPOSE_PROJECT: project(state),
    ARMATURE_SERVER_CERTIFICATES: copyCertificates(state),
    ARMATURE_MYSQL_PORT: String(await portFor(state, 'mysql', preferred.mysql, ours)),
    ARMATURE_MYSQL_PASSWORD: password(state, 'mysql:root'),
    ARMATURE_RABBITMQ_PORT: String(await portFor(state, 'rabbitmq', preferred.rabbitmq, ours)),
    ARMATURE_RABBITMQ_MANAGEMENT_PORT: String(await portFor(state, 'rabbitmq-management', beside, ours)),
    ARMATURE_RABBITMQ_PASSWORD: password(state, 'rabbitmq:armature_admin'),
  };
  const names = [...(wanted.mysql ? ['mysql'] : []), ...(wanted.rabbitmq ? ['rabbitmq'] : [])];
  writeAtomically(instanceFile(state), JSON.stringify(environment, null, 2), 0o600);
  compose(['up', '--detach', ...names], environment);
  const mysql = withCa(
    `mysql://root:${environment.ARMATURE_MYSQL_PASSWORD}@127.0.0.1:${environment.ARMATURE_MYSQL_PORT}/`,
    certificateFiles(state, 'ca').cert,
  );
  const rabbitmq = brokerUrls(state, {
    amqp: Number(environment.ARMATURE_RABBITMQ_PORT),
    management: Number(environment.ARMATURE_RABBITMQ_MANAGEMENT_PORT),
  });
  await Promise.all([
    wanted.mysql && waitUntilReady('mysql', async () => (await connectMysql(mysql)).end()),
    wanted.rabbitmq &&
      waitUntilReady('rabbitmq', () =>
        new BrokerApi(rabbitmq.management).request('GET', '/health/checks/local-alarms'),
      ),
  ]);
  if (ours && wanted.mysql) await reloadCertificates(mysql);
  return { ...(wanted.mysql ? { mysql } : {}), ...(wanted.rabbitmq ? { rabbitmq } : {}) };
}

/**
 * Copies the servers' certificates into a folder for containers to mount, and returns its path. In a container the
 * servers run as users that this machine does not know, so every user may read the keys in it; only their owner can
 * enter the folder from outside.
 */
export function copyCertificates(state: State): string {
  const folder = join(state.dir, 'containers');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const copies = serverNames.flatMap((name) => Object.entries(certificateFiles(state, name)));
  for (const [kind, path] of [...copies, ['ca', certificateFiles(state, 'ca').cert] as const]) {
    writeAtomically(join(folder, 'files', basename(path)), readFileSync(path, 'utf8'), kind === 'key' ? 0o444 : 0o644);
  }
  return join(folder, 'files');
}

/** Stops our containers; with `volumes` their data goes too. */
export function stopContainers(state: State, { volumes }: { volumes: boolean }): void {
  const environment = readJson<Record<string, string>>(instanceFile(state));
  if (!environment) return;
  compose(['down', ...(volumes ? ['--volumes'] : [])], environment);
  rmSync(instanceFile(state));
}

/** Several checkouts may run on one engine, so the project's name tells them apart. */
function project(state: State): string {
  return `armature-${createHash('sha256').update(state.dir).digest('hex').slice(0, 8)}`;
}

function compose(args: string[], environment: Record<string, string>): void {
  const run = spawnSync('docker', ['compose', '--file', composeFile, ...args], {
    env: { ...process.env, ...environment },
    encoding: 'utf8',
    timeout: startDeadlineMs,
  });
  if (run.status !== 0)
    throw new Error(`docker compose ${args.join(' ')} failed:\n${run.stderr || run.error?.message}`);
}

async function waitUntilReady(name: string, ask: () => Promise<unknown>): Promise<void> {
  const deadline = Date.now() + startDeadlineMs;
  for (;;) {
    const failure = await ask().then(
      () => undefined,
      (error: Error) => error,
    );
    if (!failure) return;
    if (Date.now() > deadline) {
      throw new Error(
        `the container ${name} did not respond (${failure.message}); see docker compose -f deploy/compose.yaml logs ${name}`,
      );
    }
    await sleep(200);
  }
}
