import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { withCa } from '@armature/runtime/credentials';
import { certificateFiles } from '../certificates.ts';
import { plainState } from '../plain-path.ts';
import { portFor } from '../ports.ts';
import { isAlive, launch, type ProcessIdentity } from '../processes.ts';
import { password, readJson, type State, writeAtomically } from '../state.ts';
import { BrokerApi } from './broker-api.ts';
import { type StartingServer, waitUntilUsable } from './start-up.ts';

const startDeadlineMs = 90_000;
const admin = 'armature_admin';

export interface RabbitmqInstance {
  ports: BrokerPorts;
  broker: ProcessIdentity;
  epmd: ProcessIdentity;
}

export interface BrokerPorts {
  amqp: number;
  management: number;
  distribution: number;
  epmd: number;
}

/**
 * Where the broker is reached: AMQP without an account, and the management API with the administrator's. Both name
 * the file of its CA bundle, where it is encrypted.
 */
export interface BrokerUrls {
  url: string;
  management: string;
}

export const rabbitmqLog = (state: State) => join(state.dir, 'logs', 'rabbitmq.log');
const epmdLog = (state: State) => join(state.dir, 'logs', 'epmd.log');
const instanceFile = (state: State) => join(state.dir, 'rabbitmq', 'instance.json');

export function rabbitmqInstance(state: State): RabbitmqInstance | undefined {
  return readJson<RabbitmqInstance>(instanceFile(state));
}

export function brokerUrls(state: State, ports: Pick<BrokerPorts, 'amqp' | 'management'>): BrokerUrls {
  const secret = password(state, `rabbitmq:${admin}`);
  const ca = certificateFiles(state, 'ca').cert;
  return {
    url: withCa(`amqps://127.0.0.1:${ports.amqp}`, ca),
    management: withCa(`https://${admin}:${secret}@127.0.0.1:${ports.management}`, ca),
  };
}

/** Starts the private RabbitMQ, and a port mapper for it, unless they run already. Resolves when both APIs respond. */
export async function startRabbitmq(
  state: State,
  programs: { rabbitmq: string; epmd: string },
  preferredPort: number | undefined,
  waitingFor: (what: string) => void = () => undefined,
): Promise<BrokerUrls> {
  const known = rabbitmqInstance(state);
  const running = known !== undefined && isAlive(known.broker);
  if (running) {
    await ready(state, brokerUrls(state, known.ports), { process: known.broker, waitingFor });
    return brokerUrls(state, known.ports);
  }
  const beside = (offset: number) => (preferredPort === undefined ? undefined : preferredPort + offset);
  const mapperRuns = known !== undefined && isAlive(known.epmd);
  const ports: BrokerPorts = {
    amqp: await portFor(state, 'rabbitmq', preferredPort),
    management: await portFor(state, 'rabbitmq-management', beside(1)),
    distribution: await portFor(state, 'rabbitmq-distribution', beside(2)),
    epmd: await portFor(state, 'rabbitmq-epmd', beside(3), mapperRuns),
  };
  const plain = plainState(state);
  const env = environment(plain, ports);
  writeSettings(plain, ports);
  const epmd = mapperRuns
    ? known.epmd
    : launch({
        command: programs.epmd,
        args: ['-address', '127.0.0.1', '-port', String(ports.epmd)],
        env,
        cwd: plain.dir,
        log: epmdLog(state),
      });
  const broker = launch({
    command: programs.rabbitmq,
    args: [],
    env,
    cwd: join(plain.dir, 'rabbitmq'),
    log: rabbitmqLog(state),
  });
  writeAtomically(
    instanceFile(state),
    JSON.stringify({ ports, broker, epmd } satisfies RabbitmqInstance, null, 2),
    0o600,
  );
  const urls = brokerUrls(state, ports);
  await ready(state, urls, { process: broker, waitingFor });
  return urls;
}

/** Quorum queues write their log to the file system but do not wait for the disk. */
const withoutFsync = ' -ra wal_sync_method none';

/** Nothing of this is read from /etc/rabbitmq, nor written to /var: the packaged broker is not ours. */
function environment(state: State, ports: BrokerPorts): NodeJS.ProcessEnv {
  const dir = join(state.dir, 'rabbitmq');
  return {
    PATH: process.env.PATH,
    LANG: 'C.UTF-8',
    // The Erlang cookie lies in the home folder.
    HOME: dir,
    ERL_EPMD_PORT: String(ports.epmd),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_NODENAME: `armature${ports.amqp}@localhost`,
    RABBITMQ_DIST_PORT: String(ports.distribution),
    RABBITMQ_MNESIA_BASE: join(dir, 'data'),
    RABBITMQ_LOG_BASE: join(dir, 'logs'),
    RABBITMQ_LOGS: '-',
    RABBITMQ_CONF_ENV_FILE: join(dir, 'none'),
    RABBITMQ_CONFIG_FILE: join(dir, 'rabbitmq.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(dir, 'none.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, 'enabled_plugins'),
    RABBITMQ_PID_FILE: join(dir, 'broker.pid'),
    RABBITMQ_GENERATED_CONFIG_DIR: join(dir, 'generated'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: `-kernel inet_dist_use_interface {127,0,0,1}${state.fsync ? '' : withoutFsync}`,
    // Makes the start script become the broker instead of waiting for it as a child, so that its pid is the broker's.
    RUNNING_UNDER_SYSTEMD: '1',
  };
}

function writeSettings(state: State, ports: BrokerPorts): void {
  const dir = join(state.dir, 'rabbitmq');
  mkdirSync(join(dir, 'data'), { recursive: true, mode: 0o700 });
  writeAtomically(join(dir, 'enabled_plugins'), '[rabbitmq_management].\n', 0o600);
  writeAtomically(join(dir, 'rabbitmq.conf'), brokerSettings(state, ports), 0o600);
}

/** Understood by RabbitMQ 3.10 and 4 alike. The broker of compose.yaml has the same in deploy/rabbitmq.conf. */
export function brokerSettings(state: State, ports: Pick<BrokerPorts, 'amqp' | 'management'>): string {
  const ca = certificateFiles(state, 'ca').cert;
  const files = certificateFiles(state, 'rabbitmq');
  return `# Every connection uses TLS, those of services and of the administrator. Clients are identified by their accounts, so
# no client certificate is requested. Certificate files are read again for new connections.
listeners.tcp = none
listeners.ssl.default = 127.0.0.1:${ports.amqp}
ssl_options.cacertfile = ${ca}
ssl_options.certfile = ${files.cert}
ssl_options.keyfile = ${files.key}
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
management.ssl.ip = 127.0.0.1
management.ssl.port = ${ports.management}
management.ssl.cacertfile = ${ca}
management.ssl.certfile = ${files.cert}
management.ssl.keyfile = ${files.key}
management.ssl.versions.1 = tlsv1.3
management.ssl.versions.2 = tlsv1.2
# A broker whose data folder is new makes this account instead of guest.
default_user = ${admin}
default_pass = ${password(state, `rabbitmq:${admin}`)}
default_user_tags.administrator = true
default_vhost = armature
`;
}

const ready = (
  state: State,
  urls: BrokerUrls,
  starting: Pick<StartingServer, 'process' | 'waitingFor'>,
): Promise<void> =>
  waitUntilUsable({
    ...{ name: 'RabbitMQ', ...starting, log: rabbitmqLog(state), deadlineMs: startDeadlineMs },
    probe: () => probeBothApis(urls),
  });

/** The alarms check fails until the node is booted, listeners included. */
async function probeBothApis(urls: BrokerUrls): Promise<void> {
  const api = new BrokerApi(urls.management);
  await api.request('GET', '/health/checks/local-alarms');
  await api.request('GET', '/health/checks/protocol-listener/amqp%2Fssl');
}

/**
 * Evaluates an Erlang expression in which N is the private broker's node, and returns its value as text. By a node of
 * our own beside it: rabbitmqctl does the same, but takes seconds to start.
 */
export async function evaluateInBroker(state: State, expression: string): Promise<string> {
  const instance = rabbitmqInstance(state);
  if (!instance) throw new Error('the private broker has not been started');
  const { ports } = instance;
  const program = `N = 'armature${ports.amqp}@localhost', R = ${expression}, io:format("~p", [R]), halt().`;
  const args = ['-noinput', '-hidden', '-sname', `beside${process.pid}@localhost`, '-eval', program];
  const { stdout } = await promisify(execFile)('erl', args, {
    env: environment(plainState(state), ports),
    timeout: 20_000,
  });
  return stdout;
}
