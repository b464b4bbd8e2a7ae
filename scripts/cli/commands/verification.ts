import { type Command, Option } from 'commander';
import { addCommand } from '../command.ts';
import { applyOption, listOf, wholeNumber, words } from './options.ts';

const load = () => import('../verification/programs.ts');

const seedOption = () =>
  new Option('--seed <number>', 'repeat the run of this seed; otherwise one of chance').argParser(
    wholeNumber(0, 2 ** 32 - 1),
  );
const recordOption = () => new Option('--record', 'keep the histories of its sagas for the tests that replay them');

/** Adds the checks of a running mesh, of the code, and the long runs that prove the claim. */
export function addVerificationCommands(program: Command): void {
  addChecks(program);
  addTests(program);
  addCrashRuns(program);
  addProofs(program);
}

function addChecks(program: Command): void {
  addCommand(program, {
    usage: 'verify',
    summary: 'Check every invariant of the running mesh',
    description: 'Checks every invariant of the running mesh. The exit code is 1 where one is broken.',
    examples: ['armature verify', 'armature verify --json'],
    timeout: '5m',
    json: true,
    run: async (_, _options, invocation) => (await import('../verification/verify.ts')).verifyMesh(invocation),
  });
  addCommand<{ apply?: boolean }>(program, {
    usage: 'reconcile',
    summary: "Compare the ledger with the acquirer's log",
    description: "Compares the ledger with the acquirer's log. The exit code is 1 where they differ.",
    examples: ['armature reconcile', 'armature reconcile --apply'],
    timeout: '10m',
    json: true,
    options: [applyOption('record outcomes that the ledger lacks')],
    run: async (_, options, invocation) =>
      (await import('../verification/reconcile.ts')).reconcile(options, invocation),
  });
}

function addTests(program: Command): void {
  addCommand(program, {
    usage: 'check',
    summary: 'Check types, style, contracts and house rules',
    examples: ['armature check'],
    timeout: '10m',
    json: true,
    run: async (_, _options, invocation) =>
      (await load()).runCommand({ program: 'scripts/checks/check.ts' }, invocation),
  });
  addCommand<{ long?: boolean }>(program, {
    usage: 'test [files...]',
    summary: 'Run the tests, or some test files, on private servers',
    examples: ['armature test', 'armature test services/inventory/service.test.ts', 'armature test --long'],
    timeout: '3h',
    json: true,
    options: [new Option('--long', 'the long variants too, as prove runs them')],
    run: async ([files], { long }, invocation) => {
      const { longTier, runCommand, testRun } = await load();
      await runCommand(testRun(listOf(files), long ? longTier : {}), invocation);
    },
  });
}

function addCrashRuns(program: Command): void {
  addCommand<{ duration: number; seed?: number; points?: string[]; record?: boolean }>(program, {
    usage: 'crash',
    summary: 'Crash test: kill processes at named points under load, restart them, check every invariant',
    examples: ['armature crash --duration 60', 'armature crash --seed 1 --points relay.published,saga.recorded'],
    timeout: '12h',
    json: true,
    options: [
      new Option('--duration <seconds>', 'how long processes are killed').argParser(wholeNumber(5, 86_400)).default(60),
      seedOption(),
      new Option('--points <names>', 'only these crash points, separated by commas').argParser(words),
      recordOption(),
    ],
    run: async (_, options, invocation) => {
      const { crashRun, runCommand } = await load();
      await runCommand(crashRun(options), invocation);
    },
  });
  addCommand<{ keys: number; sends: number; senders: number; storm: number; seed?: number }>(program, {
    usage: 'keys',
    summary: 'Idempotency test: repeat requests while processes are killed, and compare responses and effects',
    examples: ['armature keys', 'armature keys --keys 1000 --sends 3 --seed 1'],
    timeout: '2h',
    json: true,
    options: [
      new Option('--keys <number>', 'how many request ids').argParser(wholeNumber(1, 1_000_000)).default(10_000),
      new Option('--sends <number>', 'how often each is sent').argParser(wholeNumber(1, 100)).default(5),
      new Option('--senders <number>', 'how many send at once to each service')
        .argParser(wholeNumber(1, 1_000))
        .default(48),
      new Option('--storm <seconds>', 'how long processes are killed at most')
        .argParser(wholeNumber(1, 86_400))
        .default(150),
      seedOption(),
    ],
    run: async (_, options, invocation) => {
      const { keysRun, runCommand } = await load();
      await runCommand(keysRun(options), invocation);
    },
  });
  addCommand<{ rounds: number; seed?: number; record?: boolean }>(program, {
    usage: 'cold-start',
    summary: 'Kill everything at once, and start it in any order',
    examples: ['armature cold-start --rounds 3'],
    timeout: '4h',
    json: true,
    options: [
      new Option('--rounds <number>', 'how often').argParser(wholeNumber(1, 1_000)).default(20),
      seedOption(),
      recordOption(),
    ],
    run: async (_, options, invocation) => {
      const { coldStartRun, runCommand } = await load();
      await runCommand(coldStartRun(options), invocation);
    },
  });
}

function addProofs(program: Command): void {
  addCommand<{ depth?: string }>(program, {
    usage: 'races',
    summary: 'Run every interleaving of racing requests',
    examples: ['armature races', 'armature races --depth full'],
    timeout: '6h',
    json: true,
    options: [
      new Option('--depth <depth>', 'full leaves out no interleaving that is equivalent to another').choices(['full']),
    ],
    run: async (_, options, invocation) => {
      const { racesRun, runCommand } = await load();
      await runCommand(racesRun(options), invocation);
    },
  });
  addCommand(program, {
    usage: 'faults',
    summary: 'Fault injection for database, broker, network and clock',
    description: 'Fault injection for database, broker, network and clock. Needs root for namespaces and mounts.',
    examples: ['armature faults'],
    timeout: '2h',
    json: true,
    run: async (_, _options, invocation) => {
      const { runCommand, testRun, testsOf } = await load();
      await runCommand(testRun(testsOf('faults')), invocation);
    },
  });
  addCommand<{ only?: string[] }>(program, {
    usage: 'mutants',
    summary: 'Mutation test: apply known bugs to a copy, and check that a test catches each',
    examples: ['armature mutants', 'armature mutants --only lock,ledger'],
    timeout: '6h',
    json: true,
    options: [
      new Option('--only <words>', 'only mutations whose names contain one of these, by commas').argParser(words),
    ],
    run: async (_, { only }, invocation) => {
      const { mutantsRun, runCommand } = await load();
      await runCommand(mutantsRun(only), invocation);
    },
  });
  addCommand<{ only?: string[] }>(program, {
    usage: 'prove',
    summary: 'Run the long variants of everything one after another; takes hours',
    description:
      'Runs the long variants one after another: all tests with a large backlog, every interleaving, all faults, the idempotency test, cold starts, three crash tests, all mutations. Writes .run/prove.json after each part and prints a table.',
    examples: ['armature prove', 'armature prove --only tests', 'armature prove --only crash-2,races,mutants'],
    timeout: '24h',
    json: true,
    options: [
      new Option(
        '--only <parts>',
        'only these parts: tests, races, faults, keys, cold-start, crash, crash-1, crash-2, crash-3, mutants',
      ).argParser(words),
    ],
    run: async (_, { only }, invocation) => (await import('../verification/prove.ts')).prove(only, invocation),
  });
}
