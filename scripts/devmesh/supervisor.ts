// Keeps the services of a state folder running. `armature up` starts it in the background; SIGHUP makes it look for
// services that are not running and for requests to restart one, SIGTERM ends it and them.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type ServiceName, type ServicePlan, serviceNames, servicePlans } from '../../services/manifest.ts';
import { identityTrust, mailDirectory, type ServiceRun, serviceEnvironment } from './environment.ts';
import { identityOf, meshServices, readMesh, writeMesh } from './mesh.ts';
import { bootstrapFile } from './people.ts';
import { portFor } from './ports.ts';
import { identify, isAlive, stop } from './processes.ts';
import { brokerUrl, databaseUrl, serviceAccounts } from './provision.ts';
import { clearRestartRequests, type RestartRequest, takeRestartRequests } from './restart-requests.ts';
import { knownServers } from './servers/servers.ts';
import { mainFile, presentServices } from './services.ts';
import { openState, repository, type State, writeAtomically } from './state.ts';
import { type ServiceProgram, type Supervised, supervise } from './supervision.ts';
import { type SupervisorNote, supervisorFile } from './supervisor-process.ts';

type Addresses = ServiceProgram['addresses'];

const state = openState();
const acquirerDirectory = join(state.dir, 'acquirer');
const supervised = new Map<ServiceName, Supervised>();
const say = (line: string) => console.log(`${new Date().toISOString()} ${line}`);
const record = (line?: string) => {
  if (line) say(line);
  writeMesh(
    state,
    [...supervised.values()].map(({ service }) => service),
    tokens,
  );
};

// Before anything is started: `down` may end a supervisor that has just been launched.
process.on('SIGINT', end);
process.on('SIGTERM', end);
clearRestartRequests(state);
await endOrphans();
for (const folder of [mailDirectory(state), acquirerDirectory]) mkdirSync(folder, { recursive: true });
const addresses = await chooseAddresses(state);
const tokens = identityTrust(addresses.identity.http!);
startMissing();
record(`supervising ${[...supervised.keys()].join(', ') || 'no service: none has a main.ts yet'}`);

let taken = 0;
const note = () => {
  const self: SupervisorNote = { ...identify(process.pid)!, taken };
  writeAtomically(supervisorFile(state), JSON.stringify(self));
};
process.on('SIGHUP', () => {
  startMissing();
  for (const one of supervised.values()) one.nudge();
  record();
  taken += 1;
  note();
  takeRestartRequests(state, restart);
});
// Only now does it take requests: `up` waits for this file.
note();
// Keeps the process alive while there is no service to wait for.
setInterval(() => undefined, 60_000);

/** Services that a supervisor left behind when it was killed cannot be watched by another one. */
async function endOrphans(): Promise<void> {
  const left = meshServices(readMesh(state))
    .map(identityOf)
    .filter((identity) => identity && isAlive(identity));
  if (left.length > 0) say(`stopping ${left.length} services of a supervisor that is gone`);
  await Promise.all(left.map((identity) => stop(identity!)));
}

/** All addresses are chosen before any service starts, so that each can be told of all the others. */
async function chooseAddresses(state: State): Promise<Record<ServiceName, Addresses>> {
  const chosen: [ServiceName, Addresses][] = [];
  for (const name of serviceNames) {
    const plan: ServicePlan = servicePlans[name];
    const at = async (kind: string, port: number | undefined) =>
      port === undefined ? undefined : `127.0.0.1:${await portFor(state, `${name}-${kind}`, port)}`;
    const found = {
      grpc: await at('grpc', plan.grpcPort),
      admin: await at('admin', plan.adminPort),
      http: await at('http', plan.httpPort),
    };
    chosen.push([name, found]);
  }
  return Object.fromEntries(chosen) as Record<ServiceName, Addresses>;
}

function startMissing(): void {
  for (const name of presentServices()) {
    if (!supervised.has(name))
      supervised.set(name, supervise(programOf(name), { changed: (line) => recordSoon(line) }));
  }
}

/** The first change comes before the service is in the map; `record` follows at the end of the turn. */
function recordSoon(line?: string): void {
  queueMicrotask(() => record(line));
}

async function restart({ service, watch }: RestartRequest): Promise<void> {
  const one = supervised.get(service as ServiceName);
  if (!one) throw new Error(`${service} is not supervised; there are: ${[...supervised.keys()].join(', ')}`);
  await one.restart({ ...programOf(service as ServiceName), watch });
}

function programOf(name: ServiceName): ServiceProgram {
  const run = runOf(name);
  return {
    name,
    args: [mainFile(name)],
    cwd: repository,
    env: serviceEnvironment(state, run),
    stateFile: run.stateFile,
    log: join(state.dir, 'logs', `${name}.log`),
    addresses: addresses[name],
  };
}

function runOf(name: ServiceName): ServiceRun {
  const servers = knownServers(state);
  if (!servers) throw new Error('the servers are not known; run armature up');
  const grpc = Object.entries(addresses).flatMap(([peer, { grpc }]) => (grpc ? [[peer, grpc]] : []));
  const { schema, user } = serviceAccounts(name);
  return {
    name,
    stateFile: join(state.dir, 'services', `${name}.json`),
    ...addresses[name],
    peers: Object.fromEntries(grpc),
    acquirerUrl: `http://${addresses.acquirer.http}`,
    webhookAddress: addresses.payments.http,
    dataDir: acquirerDirectory,
    tokens,
    copyDir: join(state.dir, 'copies', name),
    bootstrapFile: bootstrapFile(state),
    ...(servicePlans[name].stores
      ? {
          databaseUrl: databaseUrl(state, servers.mysql.url, user, schema),
          brokerUrl: brokerUrl(state, servers.rabbitmq.url, name),
        }
      : {}),
  };
}

async function end(): Promise<void> {
  say('stopping');
  await Promise.all([...supervised.values()].map((one) => one.stop()));
  // Without a service, it may not know yet what else belongs into the file.
  if (supervised.size > 0) record('stopped');
  process.exit(0);
}
