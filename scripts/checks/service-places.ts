import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EventContract, ServiceContract } from '@armature/proto/contract.ts';
import { type ServicePlan, servicePlans } from '../../services/manifest.ts';
import { readMatrix } from '../../test/conformance/access/matrix.ts';
import { contracts, events, type Served } from '../../test/conformance/contracts.ts';
import { repository } from '../devmesh/state.ts';

/** What every place is compared with, and the files of this checkout. */
export interface ServiceSources {
  plans: Readonly<Record<string, ServicePlan>>;
  contracts: readonly Served[];
  events: readonly Pick<EventContract, 'source' | 'permission'>[];
  /** Text of a file; empty if there is no such file. */
  read(path: string): string;
  /** Paths that match a pattern. */
  paths(pattern: string): readonly string[];
}

/** A place that names each service, or each contract or event of one. */
export interface ServicePlace {
  /** Where a missing service is added. */
  path: string;
  /** What to write there for a service that is missing. */
  add: string;
  /** What it has to name, and what it names. */
  compare(sources: ServiceSources): { wanted: readonly string[]; found: readonly string[] };
}

const namesOf = (plans: ServiceSources['plans'], chosen: (plan: ServicePlan) => boolean = () => true) =>
  Object.keys(plans).filter((name) => chosen(plans[name]!));
const callable = (plan: ServicePlan) => plan.grpcPort !== undefined;
const storing = (plan: ServicePlan) => plan.stores;

/** The first group of every match. */
const matches = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map((match) => match.slice(1).join(' '));
/** The service of each path below services/; the runtime is no service. */
const folders = (paths: readonly string[]) =>
  paths.map((path) => path.split('/')[1]!).filter((folder) => folder !== 'runtime');
const localName = (contract: ServiceContract) => contract.name.split('.').at(-1)!;
const ownContracts = ({ contracts }: ServiceSources) => contracts.filter(({ byEach }) => !byEach);

export const servicePlaces: readonly ServicePlace[] = [
  {
    path: 'services/<name>/main.ts',
    add: 'write the program of the service',
    compare: ({ plans, paths }) => ({ wanted: namesOf(plans), found: folders(paths('services/*/main.ts')) }),
  },
  {
    path: 'services/<name>/package.json',
    add: 'copy that of services/inventory, with the name @armature/<name>',
    compare: ({ plans, paths, read }) => ({
      wanted: namesOf(plans),
      found: folders(paths('services/*/package.json')).filter((folder) =>
        read(`services/${folder}/package.json`).includes(`"name": "@armature/${folder}"`),
      ),
    }),
  },
  {
    path: 'package-lock.json',
    add: 'run npm install --package-lock-only',
    compare: ({ plans, read }) => ({
      wanted: namesOf(plans),
      found: matches(read('package-lock.json'), /^ {4}"services\/(?!runtime")([\w-]+)": \{$/gm),
    }),
  },
  {
    path: 'services/<name>/migrations/index.ts',
    add: 'list the migrations of its schema',
    compare: ({ plans, paths }) => ({
      wanted: namesOf(plans, storing),
      found: folders(paths('services/*/migrations/index.ts')),
    }),
  },
  {
    path: 'proto/armature/<name>/v1',
    add: 'write the contract of its gRPC port and run make gen',
    compare: (sources) => ({
      wanted: namesOf(sources.plans, callable),
      found: ownContracts(sources).map(({ service }) => service),
    }),
  },
  {
    path: 'clients/config.ts',
    add: 'add it to the type ServiceName',
    compare: ({ plans, read }) => ({
      wanted: namesOf(plans, callable),
      found: matches(/type ServiceName =([^;]*);/.exec(read('clients/config.ts'))?.[1] ?? '', /'([\w-]+)'/g),
    }),
  },
  {
    path: 'clients/index.ts, namespaces',
    add: "write clients/<name>.ts with the types of its contract, and export * as <name> from './<name>.ts'",
    compare: ({ plans, read }) => ({
      wanted: namesOf(plans, callable),
      // A service can have several contracts, each with a namespace. So the packages that namespaces export are compared.
      found: matches(read('clients/index.ts'), /^export \* as \w+ from '\.\/([\w-]+\.ts)';$/gm).flatMap((file) =>
        matches(read(`clients/${file}`), /from '@armature\/proto\/(?!ops\/)([\w-]+)\/v1\//g),
      ),
    }),
  },
  {
    path: 'clients/index.ts, factories',
    add: 'export a client made by factory(<contract>, <service>)',
    compare: (sources) => ({
      wanted: ownContracts(sources).map(({ service, contract }) => `${service} ${localName(contract)}`),
      found: matches(sources.read('clients/index.ts'), /factory\((\w+)Contract, '([\w-]+)'\)/g).map((pair) =>
        pair.split(' ').reverse().join(' '),
      ),
    }),
  },
  {
    path: 'deploy/policy.csv, members of role:service',
    add: 'add g, service:<name>, role:service',
    compare: ({ plans, read }) => ({
      wanted: namesOf(plans, callable),
      found: matches(read('deploy/policy.csv'), /^g, service:([\w-]+), role:service$/gm),
    }),
  },
  {
    path: 'deploy/policy.csv, publishers',
    add: 'add p, service:<name>, <permission of its events>, any',
    compare: ({ events, read }) => ({
      wanted: events.map(({ source, permission }) => `${source} ${permission}`),
      found: matches(read('deploy/policy.csv'), /^p, service:([\w-]+), (\w+\.publish), any$/gm),
    }),
  },
  {
    path: 'services/runtime/authz/deployed-policy.test.ts',
    add: "add a row named '<name>' with who: alone('service:<name>') and all that it may do",
    compare: ({ plans, read }) => ({
      wanted: namesOf(plans),
      // Rows of callers that are no service have other names.
      found: matches(
        read('services/runtime/authz/deployed-policy.test.ts'),
        /name: '([\w-]+)\b[^']*',\s+who: alone\('service:\1'\)/g,
      ),
    }),
  },
  {
    path: 'test/conformance/access.matrix.md, columns',
    add: 'add a column to every table and decide each cell',
    compare: ({ plans, read }) => ({
      wanted: namesOf(plans),
      found: matrixColumns(read('test/conformance/access.matrix.md')),
    }),
  },
  {
    path: 'test/conformance/access.matrix.md, methods',
    add: 'add a section "## <name>: <contract>" with a row for each method',
    compare: (sources) => ({
      wanted: ownContracts(sources).map(({ service, contract }) => `${service} ${contract.name}`),
      found: matches(sources.read('test/conformance/access.matrix.md'), /^## (?!each: )([\w-]+): (\S+)$/gm),
    }),
  },
  {
    path: 'test/conformance/access.matrix.md, consumed events',
    add: 'add a section "## <name> consumes" with three rows for each event',
    compare: ({ contracts, read }) => ({
      wanted: contracts.filter(({ contract }) => contract.consumes.length > 0).map(({ service }) => service),
      found: matches(read('test/conformance/access.matrix.md'), /^## ([\w-]+) consumes$/gm),
    }),
  },
  {
    path: 'test/conformance/access/requests.ts',
    add: 'add a valid request for each method of its contract',
    compare: (sources) => ({
      wanted: ownContracts(sources).map(({ contract }) => localName(contract)),
      found: matches(sources.read('test/conformance/access/requests.ts'), /= (?!Ops)(\w+)Contract\.methods;$/gm),
    }),
  },
  {
    path: 'README.md, table of services',
    add: 'add a row with its ports',
    compare: ({ plans, read }) => ({
      wanted: Object.entries(plans).map(
        ([name, { grpcPort, adminPort, httpPort }]) =>
          `${name} ${callable(plans[name]!) ? grpcPort : `HTTP ${httpPort}`} ${adminPort ?? ''}`,
      ),
      found: matches(read('README.md'), /^\| \[([\w-]+)\]\([^)]*\) \| ((?:HTTP )?\d+) \| ?(\d*) \|/gm),
    }),
  },
  {
    path: 'docs/retention.md',
    add: 'add a row for each of its tables',
    compare: ({ plans, read }) => ({
      wanted: namesOf(plans, storing),
      found: matches(read('docs/retention.md'), /^\| `[a-z_]+` \| (?!every service)([\w-]+) \|/gm),
    }),
  },
];

/** The columns of services: they stand between those of other workloads and those of persons. */
function matrixColumns(text: string): string[] {
  const heads = matches(text, /^\| method +\| (.*) \|$/gm).map((head) => head.split('|').map((cell) => cell.trim()));
  return heads.flatMap((head) => head.slice(head.indexOf('foreign') + 1, head.indexOf('own')));
}

/** Every difference between the places and the manifest with its contracts, with what to do about it. */
export function serviceProblems(sources: ServiceSources, places = servicePlaces): string[] {
  return places.flatMap(({ path, add, compare }) => {
    const { wanted, found } = compare(sources);
    const [all, named] = [new Set(wanted), new Set(found)];
    return [
      ...[...all].filter((one) => !named.has(one)).map((one) => `${path} lacks ${one.trim()}: ${add}`),
      ...[...named]
        .filter((one) => !all.has(one))
        .map((one) => `${path} has ${one.trim()}, which services/manifest.ts and the contracts do not have: remove it`),
    ];
  });
}

/** Ports of the manifest that two services prefer. */
export function portProblems(plans: ServiceSources['plans']): string[] {
  const owners = new Map<number, string>();
  return Object.entries(plans).flatMap(([name, { grpcPort, adminPort, httpPort }]) =>
    [grpcPort, adminPort, httpPort].flatMap((port) => {
      if (port === undefined) return [];
      const owner = owners.get(port);
      owners.set(port, name);
      return owner === undefined
        ? []
        : [`services/manifest.ts: port ${port} of ${name} is that of ${owner}: change it`];
    }),
  );
}

/** Cells and rows of the access matrix that are missing or superfluous. */
export function matrixProblems({ plans, contracts, read }: ServiceSources): string[] {
  try {
    readMatrix(read('test/conformance/access.matrix.md'), { contracts, services: Object.keys(plans) });
    return [];
  } catch (error) {
    return [(error as Error).message];
  }
}

/** The manifest, contracts and files of this checkout. */
export function checkout(): ServiceSources {
  return {
    plans: servicePlans,
    contracts,
    events,
    read(path) {
      const file = join(repository, path);
      return existsSync(file) ? readFileSync(file, 'utf8') : '';
    },
    paths: (pattern) => globSync(pattern, { cwd: repository }),
  };
}
