import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Teardown } from '../../test/support/infra.ts';
import { tokenIssuer } from '../../test/support/token.ts';
import { certificateFiles, workloadIds } from '../devmesh/certificates.ts';
import { policyFile } from '../devmesh/environment.ts';
import { repository, type State } from '../devmesh/state.ts';
import type { HostedCommand } from './command-host.ts';

/** How an `armature` command ended, and all that it wrote. */
export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Starts an `armature` command on the mesh of `runDirectory`. `output` grows while it runs. */
export function startArmature(args: readonly string[], runDirectory: string) {
  const env: NodeJS.ProcessEnv = { ...process.env, ARMATURE_RUN_DIR: runDirectory };
  const child = spawn(process.execPath, [join(repository, 'scripts', 'cli', 'main.ts'), ...args], { env });
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => {
      output[stream] += text;
    });
  }
  const ended = once(child, 'close').then(([code]): Ended => ({ code: code as number | null, ...output }));
  return { child, output, ended };
}

/** Runs armature commands in one process that has their modules loaded. Commands run one after the other. */
export interface CommandHost {
  /** Runs a command with additional variables. Standard input has nothing for it. */
  run(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Ended>;
}

/**
 * Starts a host for commands, which ends with the test. A command that ends its process, reads standard input or is
 * interrupted needs a process of its own: `startArmature`.
 */
export function startCommandHost(t: Teardown): CommandHost {
  const host = fork(join(repository, 'scripts', 'cli', 'command-host.ts'), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  t.teardown(async () => {
    const exited = once(host, 'exit');
    if (host.connected) host.disconnect();
    if (host.exitCode === null && host.signalCode === null) await exited;
  });
  let last: Promise<unknown> = Promise.resolve();
  return {
    run(args, env = {}) {
      const ended = last.then(() => ask(host, { args, env }));
      last = ended.catch(() => undefined);
      return ended;
    },
  };
}

async function ask(host: ChildProcess, command: HostedCommand): Promise<Ended> {
  const { promise, resolve, reject } = Promise.withResolvers<Ended>();
  const died = () => reject(new Error(`the command host ended while it ran: armature ${command.args.join(' ')}`));
  host.once('message', resolve as (message: unknown) => void);
  host.once('exit', died);
  try {
    if (!host.connected) died();
    else host.send(command);
    return await promise;
  } finally {
    host.off('message', resolve as (message: unknown) => void);
    host.off('exit', died);
  }
}

/** Writes a mesh.json into a folder: services of this description, with the certificates of the tests. */
export function describeMesh(folder: string, state: State, services: object, more: object = {}): void {
  const certificates = Object.keys(workloadIds()).map((one) => [one, certificateFiles(state, one)]);
  mkdirSync(folder, { recursive: true });
  const mesh = {
    services,
    certificates: { ...Object.fromEntries(certificates), ca: certificateFiles(state, 'ca').cert },
    tokens: { issuer: tokenIssuer, jwks: `${tokenIssuer}/jwks` },
    policy: policyFile,
    ...more,
  };
  writeFileSync(join(folder, 'mesh.json'), JSON.stringify(mesh));
}
