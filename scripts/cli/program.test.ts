// The armature command as its callers see it: arguments, exit codes, help, suggestions, and the make targets.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import t from 'tap';
import { armatureWords, leaves, parseProblem } from '../../test/support/command-lines.ts';
import { repository } from '../devmesh/state.ts';
import { exitCodes } from './exit-codes.ts';
import { startCommandHost } from './testbed.ts';

const launcher = join(repository, 'scripts', 'cli', 'armature');

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the command in a process of its own, in a run directory that has nothing in it but a log. */
function armature(args: readonly string[], env: NodeJS.ProcessEnv = {}, cwd = repository): Ended {
  const { status, stdout, stderr } = spawnSync(launcher, args, {
    env: { ...process.env, ARMATURE_RUN_DIR: runDir, ...env },
    cwd,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

const runDir = t.testdir({ logs: { 'orders.log': 'one\ntwo\nthree\n' } });
const host = startCommandHost(t);

const commands = leaves();

t.test('every command has a summary, a deadline with a default, and examples that can be parsed', async (t) => {
  t.ok(commands.length > 25, 'the commands are found');
  for (const { path, command } of commands) {
    const name = path.join(' ');
    const help = helpOf(command);
    t.ok(command.summary(), `${name} has a summary`);
    t.match(help, /--timeout <duration>.*\(default:\s/s, `${name} says its deadline`);
    const examples = help.slice(help.indexOf('\nExamples:\n')).split('\n').slice(2).filter(Boolean);
    const own = examples.filter((line) => line.includes(`armature ${name}`));
    t.ok(help.includes('\nExamples:\n') && own.length > 0, `${name} has an example of itself`);
    for (const line of own) t.equal(parseProblem(armatureWords(line)!), undefined, line);
  }
});

/** The help of a command, without running it. */
function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: (part) => (text += part) });
  command.outputHelp();
  return text;
}

interface Row {
  name: string;
  args: string[];
  code: number;
  stdout?: RegExp;
  stderr?: RegExp;
  /** Whether it runs in a process of its own, which shows how the process ends. */
  process?: true;
}

const rows: Row[] = [
  { name: 'help', args: ['--help'], code: exitCodes.ok, stdout: /^Usage: armature <command>/, process: true },
  {
    name: 'help of a command',
    args: ['call', '--help'],
    code: exitCodes.ok,
    stdout: /\nExamples:\n {2}\$ armature call/,
  },
  { name: 'help of a group', args: ['sagas', '--help'], code: exitCodes.ok, stdout: /resume \[options\] \[id\]/ },
  { name: 'nothing', args: [], code: exitCodes.usage, stderr: /^Usage: armature/ },
  { name: 'a group alone', args: ['sagas'], code: exitCodes.usage, stderr: /^Usage: armature sagas/ },
  {
    name: 'an unknown command',
    args: ['statsu'],
    process: true,
    code: exitCodes.usage,
    stderr: /^error: unknown command 'statsu'\n\(Did you mean status\?\)/,
  },
  {
    name: 'an unknown command of a group',
    args: ['dead-letters', 'redrve'],
    code: exitCodes.usage,
    stderr: /unknown command 'redrve'\n\(Did you mean redrive\?\)/,
  },
  {
    name: 'an unknown option',
    args: ['verify', '--jsn'],
    code: exitCodes.usage,
    stderr: /unknown option '--jsn'\n\(Did you mean --json\?\)/,
  },
  { name: 'too many arguments', args: ['verify', 'me'], code: exitCodes.usage, stderr: /too many arguments/ },
  {
    name: 'a missing argument',
    args: ['sagas', 'show', '--service', 'orders'],
    code: exitCodes.usage,
    stderr: /missing required argument 'id'/,
  },
  {
    name: 'a missing option',
    args: ['sagas', 'show', 'x'],
    code: exitCodes.usage,
    stderr: /required option '--service <name>' not specified/,
  },
  {
    name: 'a choice that is not one',
    args: ['sagas', 'list', '--state', 'stuk'],
    code: exitCodes.usage,
    stderr: /It is one of running, stuck, completed, failed; did you mean stuck\?/,
  },
  {
    name: 'a number out of bounds',
    args: ['crash', '--duration', '4'],
    code: exitCodes.usage,
    stderr: /It is a whole number from 5 to 86400/,
  },
  {
    name: 'a duration that is none',
    args: ['verify', '--timeout', 'soon'],
    code: exitCodes.usage,
    stderr: /It is a duration such as/,
  },
  {
    name: 'a filter that is missing',
    args: ['sagas', 'resume', '--service', 'orders'],
    code: exitCodes.usage,
    stderr: /^name a saga by its id, or choose some by --saga/,
  },
  {
    name: 'a service that does not exist',
    args: ['sagas', 'list', '--service', 'order'],
    code: exitCodes.usage,
    stderr: /^--service order: no such service; did you mean orders\? There are: /,
  },
  {
    name: 'a service that does not exist, for a call',
    args: ['call', 'OpsService/ListSagas', '--service', 'order'],
    code: exitCodes.usage,
    stderr: /^--service order: no such service; did you mean orders\? There are: /,
  },
  {
    name: 'a service that does not exist, for a baseline',
    args: ['baseline', '--from', 'orders', '--to', 'notification', '--aggregate', 'order'],
    code: exitCodes.usage,
    stderr: /^--to notification: no such service; did you mean notifications\? There are: /,
  },
  {
    name: 'a service that does not exist, for a restart',
    args: ['restart', 'ordrs'],
    code: exitCodes.usage,
    stderr: /^there is no service ordrs; did you mean orders\? There are: /,
  },
  {
    name: 'a caller that does not exist',
    args: ['token', '--as', 'custmer:ada'],
    code: exitCodes.usage,
    stderr: /^--as custmer:ada is not understood; did you mean customer\? It is one of /,
  },
  {
    name: 'a caller that does not exist, for all services',
    args: ['sagas', 'list', '--as', 'customer:adda'],
    code: exitCodes.usage,
    stderr: /^--as customer:adda: no account of that name exists here; did you mean ada\? There are: /,
  },
  {
    name: 'a permission that does not exist',
    args: ['access', 'explain', 'user:ada', 'orders.cancle'],
    code: exitCodes.usage,
    stderr: /^orders\.cancle is no permission, method or event; did you mean orders\.cancel\?/,
  },
  {
    name: 'an unknown option, for programs',
    args: ['verify', '--jsn', '--json'],
    code: exitCodes.usage,
    stderr: /^\{"error":\{"message":"unknown option '--jsn' \(Did you mean --json\?\)"\}\}\n$/,
  },
  {
    name: 'a choice that is not one, for programs',
    args: ['sagas', 'list', '--state', 'stuk', '--json'],
    code: exitCodes.usage,
    stderr: /^\{"error":\{"message":".* It is one of running, .*; did you mean stuck\?"\}\}\n$/,
  },
  {
    name: 'no mesh',
    process: true,
    args: ['verify'],
    code: exitCodes.failed,
    stderr: /^The mesh is not running \(there is no .*mesh\.json\); start it with: armature up\n$/,
  },
  {
    name: 'no mesh, for all services',
    args: ['sagas', 'list'],
    code: exitCodes.failed,
    stderr: /^The mesh is not running .*\n$/,
  },
  {
    name: 'no mesh, for programs',
    args: ['verify', '--json'],
    code: exitCodes.failed,
    stderr: /^\{"error":\{"message":"The mesh is not running .*"\}\}\n$/,
  },
  {
    name: 'status of nothing',
    args: ['status'],
    code: exitCodes.failed,
    stdout: /^Nothing runs\. armature up starts it\.\n$/,
  },
  {
    name: 'status of nothing, for programs',
    args: ['status', '--json'],
    code: exitCodes.failed,
    stdout: /^\{\n {2}"running": false\n\}\n$/,
  },
  {
    name: 'the end of a log',
    // Another program writes to the standard output of the command.
    process: true,
    args: ['logs', 'orders', '--lines', '2'],
    code: exitCodes.ok,
    stdout: /^two\nthree\n$/,
  },
  {
    name: 'a log that is not there',
    args: ['logs', 'order'],
    code: exitCodes.usage,
    stderr: /^there is no log order; did you mean orders\?: armature logs <name>, where name is one of: orders\n$/,
  },
  { name: 'down of nothing', args: ['down', '--json'], code: exitCodes.ok, stdout: /^\{\n {2}"stopped": \[\],/ },
  {
    name: 'a part that is not one',
    args: ['prove', '--only', 'crsh'],
    code: exitCodes.usage,
    stderr:
      /^--only crsh: no such part; did you mean crash\? There are: tests, races, faults, keys, cold-start, crash, crash-1, crash-2, crash-3, mutants\.\n$/,
  },
  {
    name: 'a deadline that passes',
    args: ['logs', 'orders', '--follow', '--timeout', '3s'],
    process: true,
    code: exitCodes.deadline,
    stdout: /^one\n/,
    stderr: /^the deadline of 3 s passed; --timeout sets another\n$/,
  },
];

t.test('arguments, exit codes and messages', async (t) => {
  for (const { name, args, code, stdout = /^$/, stderr = /^$/, process } of rows) {
    const ended = process ? armature(args) : await hosted(args);
    t.equal(ended.status, code, `${name}: ${ended.stderr}`);
    t.match(ended.stdout, stdout, name);
    t.match(ended.stderr, stderr, name);
    t.notMatch(ended.stderr, /\n {4}at /, `${name}: no stack`);
  }
});

/** Runs the command in the host of commands, in the same run directory. */
async function hosted(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const { code, ...output } = await host.run(args, { ARMATURE_RUN_DIR: runDir, ...env });
  return { status: code, ...output };
}

t.test('DEBUG adds the stack to an error for programs, which stays one line of JSON', async (t) => {
  for (const { args, code, message } of [
    { args: ['verify', '--json'], code: exitCodes.failed, message: /^The mesh is not running/ },
    { args: ['verify', '--jsn', '--json'], code: exitCodes.usage, message: /^unknown option '--jsn'/ },
  ]) {
    const ended = await hosted(args, { DEBUG: '1' });
    t.equal(ended.status, code, ended.stderr);
    t.match(ended.stderr, /^.*\n$/, 'one line');
    t.match(JSON.parse(ended.stderr), { error: { message, stack: /\n {4}at / } });
  }
});

t.test('docs/cli.md names every command and every exit code', async (t) => {
  const page = readFileSync(join(repository, 'docs', 'cli.md'), 'utf8');
  for (const { path } of commands) {
    const [noun, verb] = path as [string, string?];
    const row = page.split('\n').find((line) => line.startsWith('| `') && line.split('|')[1]!.includes(`\`${noun}`));
    t.ok(row, `${noun} is in the table`);
    if (verb) t.ok(page.includes(`${noun} ${verb}`) || row?.includes(`\`${verb}\``), `${noun} ${verb} is`);
  }
  for (const code of Object.values(exitCodes)) t.match(page, new RegExp(`^\\| ${code} \\| `, 'm'));
});

t.test('is found from any folder, by the link that npm makes', async (t) => {
  const link = join(repository, 'node_modules', '.bin', 'armature');
  t.ok(existsSync(link), 'npm ci links the bin of the workspace');
  const run = spawnSync(link, ['status'], {
    cwd: runDir,
    env: { ...process.env, ARMATURE_RUN_DIR: runDir },
    encoding: 'utf8',
  });
  t.match(run, { status: exitCodes.failed, stdout: /^Nothing runs/ });
});

/** Prints the modules that a program has loaded, at its end, to standard error. */
const moduleList = `data:text/javascript,${encodeURIComponent(`import { registerHooks } from 'node:module';
const loaded = [];
registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
process.on('exit', () => console.error(loaded.join('\\n')));`)}`;

t.test('help loads the declarations of commands and commander, nothing that a command needs to run', async (t) => {
  for (const args of [['--help'], ['call', '--help']]) {
    const run = armature(args, { NODE_OPTIONS: `--import "${moduleList}"` });
    t.equal(run.status, 0, run.stderr);
    const loaded = run.stderr.split('\n').filter((url) => url.startsWith('file:'));
    t.ok(
      loaded.some((url) => url.endsWith('scripts/cli/program.ts')),
      'the list is read',
    );
    t.ok(loaded.length <= 30, `${loaded.length} modules`);
    const packages = new Set(loaded.flatMap((url) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1] ?? []));
    t.strictSame([...packages], ['commander']);
  }
});

/** The variables of make targets that have some, each with a value that stays recognizable. */
const variables: Record<string, Record<string, string>> = {
  call: { RPC: 'a.B/C', DATA: `{"a":"it's"}`, AS: 'admin', S: 'orders' },
  token: { AS: 'admin' },
  'dead-letters': { S: 'orders', TYPE: 'some type', REASON: 'some reason', AS: 'admin' },
  'dead-letter': { S: 'orders', ID: 'some-id', AS: 'admin' },
  redrive: { S: 'orders', ID: 'some-id', TYPE: 'some type', REASON: 'some reason', APPLY: '1', AS: 'admin' },
  drop: { S: 'orders', ID: 'some-id', WHY: `it's "gone"`, AS: 'admin' },
  baseline: {
    FROM: 'orders',
    TO: 'access',
    AGGREGATE: 'order',
    IDS: 'a,b',
    SKIP_HISTORY: '1',
    APPLY: '1',
    AS: 'admin',
  },
  sagas: { S: 'orders', STATE: 'stuck', AS: 'admin' },
  saga: { S: 'orders', ID: 'some-id', AS: 'admin' },
  resume: { S: 'orders', ID: 'some-id', SAGA: 'a', STEP: 'b', REASON: 'c d', OLDER: '5', APPLY: '1', AS: 'admin' },
  compensate: { S: 'orders', ID: 'some-id', WHY: 'ticket 1', AS: 'admin' },
  'access-matrix': { FILE: 'x y.csv', FORMAT: 'csv' },
  'access-diff': { BASE: 'main' },
  'access-explain': { SUBJECT: 'user:ada', PERMISSION: 'orders.cancel', WORKLOAD: 'service:orders', AS: 'admin' },
  'access-apply': { FILE: 'x.csv', PRUNE: '1', APPLY: '1', AS: 'admin' },
  certs: { STEP: 'start' },
  secrets: { STEP: 'retire', FORCE: '1' },
  logs: { S: 'orders' },
  restart: { S: 'orders payments' },
  dev: { S: 'orders' },
  reconcile: { APPLY: '1' },
  test: { FILES: 'a.test.ts b.test.ts' },
  crash: { DURATION: '60', SEED: '4711', POINTS: 'a,b', RECORD: '1' },
  keys: { KEYS: '11', SENDS: '12', SENDERS: '13', STORM: '14', SEED: '4711' },
  'cold-start': { ROUNDS: '11', SEED: '4711', RECORD: '1' },
  races: { DEPTH: 'full' },
  mutants: { ONLY: 'lock,ledger' },
  prove: { ONLY: 'tests' },
};
/** The flags of variables that are switched on by 1. */
const switches: Record<string, string> = {
  APPLY: '--apply',
  RECORD: '--record',
  SKIP_HISTORY: '--skip-history',
  PRUNE: '--prune',
  FORCE: '--force',
};

t.test('every make target runs the command that it names', async (t) => {
  const makefile = readFileSync(join(repository, 'Makefile'), 'utf8');
  // These work before the packages are installed, or are other programs alone.
  const own = ['help', 'install', 'gen', 'fmt', 'runtime-graph'];
  const targets = [...makefile.matchAll(/^([a-z][a-z-]*):.*## /gm)].map(([, name]) => name!);
  t.same(
    Object.keys(variables).filter((name) => !targets.includes(name)),
    [],
    'these targets exist',
  );
  for (const target of targets.filter((name) => !own.includes(name))) {
    const set = variables[target] ?? {};
    for (const values of target in variables ? [{}, set] : [{}]) {
      const given = Object.entries(values).map(([name, value]) => `${name}=${value}`);
      const args = ['--no-print-directory', '-n', '-o', 'ready', target, ...given];
      const dry = spawnSync('make', args, { cwd: repository, encoding: 'utf8' });
      // The shell expands the recipe as it does for make, with a function in the place of the command.
      const shell = `print_words() { printf '%s\\n' "$@"; }\n${dry.stdout.replaceAll('scripts/cli/armature', 'print_words')}`;
      // Bash runs ~/.bashrc if its input is a socket, as that of spawned processes is.
      const run = spawnSync('bash', ['--norc', '-c', shell], { env: { ...process.env, ...values }, encoding: 'utf8' });
      const words = run.stdout.split('\n').slice(0, -1);
      const problem = parseProblem(words);
      const complete = Object.keys(values).length > 0 || !/missing required|not specified/.test(problem ?? '');
      if (complete) t.equal(problem, undefined, `make ${target} ${given.join(' ')}: armature ${words.join(' ')}`);
      for (const [name, value] of Object.entries(values)) {
        const wanted = switches[name]
          ? [switches[name]]
          : name === 'FILES' || target === 'restart'
            ? value.split(' ')
            : [value];
        t.same(
          wanted.filter((word) => !words.includes(word)),
          [],
          `make ${target} passes ${name} on`,
        );
      }
    }
  }
});
