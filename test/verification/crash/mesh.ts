import { closeSync, openSync, readSync } from 'node:fs';
import { restartDelayMs } from '../../../scripts/devmesh/backoff.ts';
import { signal } from '../../../scripts/devmesh/processes.ts';
import { connectMysql } from '../../../scripts/devmesh/servers/mysql.ts';
import { repository, type State } from '../../../scripts/devmesh/state.ts';
import { type Supervised, supervise } from '../../../scripts/devmesh/supervision.ts';
import { ownServers, type Teardown } from '../../support/infra.ts';
import { brokerServer, databaseServer, type PrivateServer } from '../../support/server-faults.ts';
import { type PreparedMember, prepareMesh, type StartOptions } from '../../support/service.ts';
import { openShopData, type ShopData } from '../invariants/shop-data.ts';

/** A service that is restarted when it ends, and whose next process can be given a crash point. */
export interface Victim {
  readonly name: string;
  readonly pid: number | undefined;
  readonly ready: boolean;
  /** Sets the crash point of the next process, such as "saga.sent:3"; '' for none. */
  arm(spec: string): void;
  /** Sets environment variables of the next process, as a deployment does. */
  deploy(variables: Readonly<Record<string, string>>): void;
  kill(): void;
  /** Delays restarts until `revive` is called. */
  delayRestart(): void;
  /** Starts the process at once, if it waits for its restart delay. */
  revive(): void;
}

/** How a process ended: by a signal or by itself, at which crash point, and the supervisor's description. */
export interface End {
  readonly signal: boolean;
  readonly point: string | null;
  readonly words: string;
}

/** Callbacks for the ends and starts of victims. */
export interface ProcessListener {
  ended(victim: Victim, how: End): void;
  ready(victim: Victim): void;
}

/** The whole shop as real processes under a supervisor, with its own database and broker. */
export interface CrashMesh {
  readonly victims: readonly Victim[];
  readonly servers: { readonly database: PrivateServer; readonly broker: PrivateServer };
  victim(name: string): Victim;
  grpcOf(name: string): string;
  acquirerUrl: string;
  /** Runs `look` with a view of all data. Opens a new connection each time: the database may have been killed since. */
  inspect<T>(look: (shopData: ShopData) => Promise<T>): Promise<T>;
  stop(): Promise<void>;
}

export async function startCrashMesh(
  t: Teardown,
  listener: ProcessListener,
  settings: (name: string) => StartOptions,
): Promise<CrashMesh> {
  const state = ownServers(t, 'crash');
  const members = await prepareMesh(t, undefined, settings);
  const supervised = members.map((member) => superviseVictim(member, listener));
  const stop = async () => {
    await Promise.all(supervised.map((one) => one.stop()));
  };
  t.teardown(stop);
  const member = (name: string) => {
    const found = members.find((one) => one.name === name);
    if (!found) throw new Error(`the mesh has no ${name}`);
    return found;
  };
  const victims = supervised.map(({ victim }) => victim);
  return {
    victims,
    servers: serversOf(state),
    victim: (name) => victims.find((one) => one.name === name) ?? fail(name),
    grpcOf: (name) => member(name).addresses.grpc ?? fail(name),
    acquirerUrl: `http://${member('acquirer').addresses.http}`,
    async inspect(look) {
      const connection = await connectMysql(member('orders').database!.adminUrl);
      const stores = members.flatMap(({ name, database }) => (database ? [[name, database.schema]] : []));
      const acquirerUrl = `http://${member('acquirer').addresses.http}`;
      try {
        return await look(
          openShopData({ connection, schemas: Object.fromEntries(stores), acquirerUrl, graceSeconds: 0 }),
        );
      } finally {
        await connection.end();
      }
    },
    stop,
  };
}

const serversOf = (state: State) => ({ database: databaseServer(state), broker: brokerServer(state) });

function fail(name: string): never {
  throw new Error(`the mesh has no service called ${name}`);
}

/** Longer than any run. */
const delayedMs = 24 * 3_600_000;

function superviseVictim(member: PreparedMember, listener: ProcessListener): { victim: Victim; stop(): Promise<void> } {
  const { name, program, env, stateFile, log, addresses } = member;
  // Read at each start, so that every process can be armed differently.
  const environment = env as Record<string, string>;
  const lastWords = tailOf(log);
  let seen = { state: '', restarts: 0 };
  let restartDelayed = false;
  let supervised: Supervised | undefined;
  const victim: Victim = {
    name,
    get pid() {
      return supervised?.service.pid;
    },
    get ready() {
      return supervised?.service.state === 'ready';
    },
    arm(spec) {
      environment.ARMATURE_CRASH_POINTS = spec;
    },
    deploy(variables) {
      Object.assign(environment, variables);
    },
    kill() {
      const { pid, started } = supervised?.service ?? {};
      if (pid !== undefined && started !== undefined) signal({ pid, started }, 'SIGKILL');
    },
    delayRestart() {
      restartDelayed = true;
    },
    revive() {
      restartDelayed = false;
      supervised?.nudge();
    },
  };
  const changed = () => {
    if (!supervised) return;
    const { state, restarts } = supervised.service;
    const before = seen;
    seen = { state, restarts };
    if (restarts > before.restarts) {
      const point = /killed at crash point (\S+)/.exec(lastWords())?.[1] ?? null;
      const words = supervised.service.lastEnd ?? '';
      listener.ended(victim, { signal: /SIGKILL/.test(words), point, words });
    }
    if (state === 'ready' && before.state !== 'ready') listener.ready(victim);
  };
  supervised = supervise(
    { name, args: [program], cwd: repository, env: environment, stateFile, log, addresses },
    { changed },
    { delayMs: (failures) => (restartDelayed ? delayedMs : restartDelayMs(failures)) },
  );
  return { victim, stop: () => supervised.stop() };
}

/** Returns a function that returns what was written to the file since its last call. */
function tailOf(path: string): () => string {
  let offset = 0;
  return () => {
    const file = openSync(path, 'r');
    try {
      const parts: string[] = [];
      const buffer = Buffer.alloc(65_536);
      for (;;) {
        const read = readSync(file, buffer, 0, buffer.length, offset);
        if (read === 0) return parts.join('');
        parts.push(buffer.toString('utf8', 0, read));
        offset += read;
      }
    } finally {
      closeSync(file);
    }
  };
}
