import { basename, dirname, join, normalize } from 'node:path';
import { runtimeBackEdges } from './runtime-folders.ts';
import { imports, type SourceFile } from './source-file.ts';
import { wordsAreStandard } from './vocabulary.ts';

/** Checks one file and returns its problems, each with the reason. */
export type Rule = (file: SourceFile) => string[];

const longestFile = 500;
const longestMain = 20;

const isVendored = (path: string) => /^proto\/(buf|google|grpc)\//.test(path);
const isCode = (path: string) => /\.(ts|mts|mjs|js)$/.test(path);
/** Tests, benchmarks, the processes that tests start, and testbeds: `testbed.ts` beside the code, and the runtime's `testing`. */
const isTest = (path: string) =>
  /(\.test\.ts|\.bench\.ts|\/testbed\.ts|-child\.ts)$/.test(path) || /^(test|services\/runtime\/testing)\//.test(path);
const lineCount = (text: string) => text.trimEnd().split('\n').length;

const vagueNames = ['util', 'utils', 'helper', 'helpers', 'common', 'manager', 'base', 'misc'];

/** Vague names attract unrelated code. */
const namesSaySomething: Rule = ({ path }) =>
  path
    .split('/')
    .flatMap((part) => part.split(/[-_.]/))
    .filter((word) => vagueNames.includes(word.toLowerCase()))
    .map((word) => `"${word}" in a name says nothing about what is inside; name the thing that the file holds`);

/** The whole configuration of a service is in one file, which reports all problems at once. */
const environmentIsReadInOnePlace: Rule = ({ path, text }) => {
  const allowed =
    !isCode(path) ||
    isTest(path) ||
    path.startsWith('scripts/') ||
    basename(path) === 'config.ts' ||
    /\.config\.\w+$/.test(path);
  if (allowed || !/\bprocess\s*(\.|\[\s*['"])\s*env\b/.test(withoutComments(text))) return [];
  return [
    'process.env is read outside config.ts; put the setting there, so that all of them are checked together at the start',
  ];
};

/** Timers of services are in one module, whose sleeps end with a signal. The acquirer shares no code with services. */
const timeIsInOnePlace: Rule = ({ path, text }) => {
  const applies = path.startsWith('services/') && isCode(path) && !isTest(path) && !path.endsWith('-process.ts');
  if (!applies || /^services\/(runtime\/time|acquirer)\//.test(path)) return [];
  if (!imports(text).some((specifier) => /^(node:)?timers\/promises$/.test(specifier))) return [];
  return ['imports timers/promises; use sleep of @armature/runtime/time, and give it a signal that ends it'];
};

/** Files that take apart http and https URLs, whose path stays percent-encoded. */
const pathsOfHttp = [
  'scripts/devmesh/sign-in/',
  'services/acquirer/server.ts',
  'services/identity/attacks.test.ts',
  'services/runtime/http/https-server.ts',
  'test/support/infra.ts',
];

/** A checkout may lie under any path and belong to any user id. */
const pathsAndUsersMayBeAny: Rule = ({ path, text }) => {
  if (!isCode(path) || path === 'test/tidy.test.ts' || path === 'test/support/tidy.ts') return [];
  const code = withoutComments(text);
  const problems: string[] = [];
  if (/\.pathname\b/.test(code) && !pathsOfHttp.some((allowed) => path.startsWith(allowed))) {
    problems.push('uses .pathname, in which a blank is %20; for a file URL use fileURLToPath of node:url');
  }
  if (/\buserInfo\s*\(/.test(code)) {
    problems.push('calls os.userInfo, which throws for a user id without a name; use process.getuid');
  }
  return problems;
};

/** proto <- runtime <- clients <- services; no service imports another's code. */
const importsPointOneWay: Rule = ({ path, text }) => {
  if (!isCode(path)) return [];
  const from = partOf(path);
  if (!from) return [];
  return imports(text).flatMap((specifier) => {
    const to = partOf(targetOf(path, specifier));
    const problem = to && forbidden(from, to, isTest(path));
    return problem ? [`imports ${specifier}: ${problem}`] : [];
  });
};

/** Testbeds and the drivers of sync points have no place in a process that runs in production. */
const productionIgnoresTestbeds: Rule = ({ path, text }) => {
  if (!isCode(path) || isTest(path) || !/^(services|clients|proto)\//.test(path)) return [];
  return imports(text)
    .filter((specifier) => isTestbed(targetOf(path, specifier)))
    .map((specifier) => `imports ${specifier}: production code imports no testbed; move the shared part out of it`);
};

const isTestbed = (target: string): boolean =>
  /(^|\/)testbed\.ts$/.test(target) || /^services\/runtime\/testing(\/|$)/.test(target);

/** Folders of the runtime depend in one direction, and code outside imports the entries of its package.json only. */
const runtimeIsLayered: Rule = (file) => {
  if (!isCode(file.path)) return [];
  if (file.path.startsWith('services/runtime/')) return runtimeBackEdges(file);
  return imports(file.text)
    .filter((specifier) => targetOf(file.path, specifier).startsWith('services/runtime/') && specifier.endsWith('.ts'))
    .map((specifier) => `imports ${specifier}: import an entry of the runtime, such as @armature/runtime/db`);
};

/** The parts of the repository between which imports are restricted. */
type Part = { kind: 'proto' | 'runtime' | 'clients' | 'service' | 'scripts' | 'test'; name: string };

function partOf(path: string): Part | undefined {
  const [top, second] = path.split('/');
  if (top === 'services' && second) return { kind: second === 'runtime' ? 'runtime' : 'service', name: second };
  if (top === 'proto' || top === 'clients' || top === 'scripts' || top === 'test') return { kind: top, name: top };
  return undefined;
}

function forbidden(from: Part, to: Part, inTest: boolean): string | undefined {
  if (from.kind === 'scripts' || from.kind === 'test') return undefined;
  if (to.kind === 'scripts' || to.kind === 'test') {
    return inTest ? undefined : 'what runs in production may not stand on scripts or tests';
  }
  if (from.kind === 'service' && to.kind === 'service' && from.name !== to.name) {
    return 'services may not share code but through the runtime; call the other one by its client';
  }
  const order = ['proto', 'runtime', 'clients', 'service'];
  if (inTest || order.indexOf(to.kind) <= order.indexOf(from.kind)) return undefined;
  return 'dependencies point one way: proto, runtime, clients, services; never back';
}

/** Target of an import, as a path from the root; own packages are named by their folders. */
function targetOf(path: string, specifier: string): string {
  if (specifier.startsWith('.')) return normalize(join(dirname(path), specifier));
  const [scope, name, ...rest] = specifier.split('/');
  if (scope !== '@armature' || !name) return '';
  const folder = name === 'proto' || name === 'clients' ? name : `services/${name}`;
  return [folder, ...rest].join('/');
}

const ormFolders = /^services\/(runtime\/(db|messaging|saga)|[^/]+\/migrations)\//;

/** Transactions are easy to get wrong, so only one kind of file uses them. */
const onlyStoresKnowTheOrm: Rule = ({ path, text }) => {
  if (!isCode(path) || isTest(path) || ormFolders.test(path) || /^(store|entities)\.ts$/.test(basename(path)))
    return [];
  if (!imports(text).some((specifier) => specifier.startsWith('@mikro-orm/'))) return [];
  return [
    'imports @mikro-orm; only store.ts with its entities.ts, migrations and the runtime know that there is a database',
  ];
};

const filesAreShort: Rule = ({ path, text }) => {
  if (isVendored(path) || /(^|\/)(package-lock\.json|CHANGELOG\.md)$/.test(path) || path.startsWith('deploy/grafana/'))
    return [];
  const lines = lineCount(text);
  return lines > longestFile
    ? [`has ${lines} lines; over ${longestFile} a file holds more than one thing: split it`]
    : [];
};

const mainsAreShort: Rule = ({ path, text }) => {
  if (!/^services\/[^/]+\/main\.ts$/.test(path) || lineCount(text) <= longestMain) return [];
  return [`has ${lineCount(text)} lines; a main.ts is a list of parts, in ${longestMain} lines or fewer`];
};

const decisionHeadings: [string, RegExp][] = [
  ['a title (# ...)', /^# \S/m],
  ['## Context', /^## Context\s*$/m],
  ['## Decision', /^## Decision\s*$/m],
  ['## Consequences', /^## Consequences\s*$/m],
];

const decisionsAreComplete: Rule = ({ path, text }) => {
  if (!path.startsWith('docs/adr/')) return [];
  if (!/^docs\/adr\/\d{4}-[a-z0-9-]+\.md$/.test(path)) {
    return path.endsWith('.md') ? ['a decision is named NNNN-what-was-decided.md, so that decisions sort by age'] : [];
  }
  return decisionHeadings
    .filter(([, pattern]) => !pattern.test(text))
    .map(([heading]) => `lacks ${heading}; a decision without it cannot be judged later`);
};

/** Written in two halves, because the rule applies to this file too. */
const unfinished = new RegExp(
  `\\b(${['TO', 'FIX'].map((start) => start + (start === 'TO' ? 'DO' : 'ME')).join('|')})\\b`,
);

const nothingIsLeftForLater: Rule = ({ path, text }) => {
  if (isVendored(path) || path === 'package-lock.json') return [];
  const line = text.split('\n').findIndex((content) => unfinished.test(content));
  return line < 0 ? [] : [`line ${line + 1} leaves work for later; do it, or write down elsewhere what is missing`];
};

const secretWord = /(secret|csrf|password|passwordHash|signature|token|mac|otp|jwt|cookie|assertion)(Of)?$/i;
const constant = /^(['"`\d-]|(null|undefined|true|false)\b)/;
/** Operands of a comparison: names with members and calls, or the beginning of a constant. */
const comparison = /([\w$.?!()[\]'"]+)\s*[!=]==?\s*(['"`\d-]|[\w$.?!]+(?:\()?)/g;
/** Page tokens and fencing tokens are no secrets: the former names a place in a list, the latter a lease. */
const publicTokens = /(page|lease)Token$/i;

/** Comparing by === takes longer the more of a guess is right. */
const secretsAreComparedInConstantTime: Rule = ({ path, text }) => {
  if (!isCode(path) || isTest(path) || !/^(services|clients)\//.test(path)) return [];
  if (path === 'services/runtime/credentials/equal-secrets.ts') return [];
  const code = withoutComments(text);
  const says = 'use equalSecrets of @armature/runtime/credentials, which compares in constant time';
  const isSecret = (operand: string) => {
    const name = operand.replace(/\W+$/, '');
    return secretWord.test(name) && !publicTokens.test(name);
  };
  const compared = [...code.matchAll(comparison)].flatMap(([whole, left = '', right = '']) => {
    if (constant.test(left) || constant.test(right)) return [];
    return isSecret(left) || isSecret(right) ? [`compares ${whole}: ${says}`] : [];
  });
  return /\btimingSafeEqual\b/.test(code) ? [...compared, `calls timingSafeEqual: ${says}`] : compared;
};

export const rules: Record<string, Rule> = {
  namesSaySomething,
  environmentIsReadInOnePlace,
  timeIsInOnePlace,
  pathsAndUsersMayBeAny,
  importsPointOneWay,
  productionIgnoresTestbeds,
  runtimeIsLayered,
  onlyStoresKnowTheOrm,
  filesAreShort,
  mainsAreShort,
  decisionsAreComplete,
  nothingIsLeftForLater,
  secretsAreComparedInConstantTime,
  wordsAreStandard,
};

/** Approximate: prose about a name must not count as its use. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '');
}
