import { Argument, type Command, Option } from 'commander';
import { serviceNames } from '../../../services/manifest.ts';
import { addCommand } from '../command.ts';
import { listOf, wholeNumber } from './options.ts';

/** Adds what starts, stops and shows the mesh of this checkout. */
export function addMeshCommands(program: Command): void {
  addStarting(program);
  addLooking(program);
  addSecrets(program);
  addDemonstration(program);
}

function addStarting(program: Command): void {
  addCommand(program, {
    usage: 'up',
    summary: 'Start servers and services; start what is missing when run again',
    examples: ['armature up'],
    timeout: '10m',
    json: true,
    run: async (_, _options, invocation) => (await import('../mesh/lifecycle.ts')).startMesh(invocation),
  });
  addCommand<{ clean?: boolean }>(program, {
    usage: 'down',
    summary: 'Stop everything that was started here, and nothing else',
    examples: ['armature down', 'armature down --clean'],
    timeout: '3m',
    json: true,
    options: [new Option('--clean', 'remove the data too (.run)')],
    run: async (_, options, invocation) => (await import('../mesh/lifecycle.ts')).stopMesh(options, invocation),
  });
  addCommand<{ all?: boolean }>(program, {
    usage: 'restart [services...]',
    summary: 'Restart services with the code as it is now',
    description:
      'Restarts services with the code as it is now, migrates their schemas where that is due, and waits until they are ready. Servers and other services go on.',
    examples: ['armature restart orders', 'armature restart orders payments', 'armature restart --all'],
    timeout: '2m',
    json: true,
    options: [new Option('--all', 'all services')],
    run: async ([services], options, invocation) =>
      (await import('../mesh/restart.ts')).restartServices(listOf(services), options, invocation),
  });
  addCommand(program, {
    usage: 'dev <service>',
    summary: 'Restart a service at every change of its code, and show its log',
    description:
      'Runs a service by node --watch and shows its log, until the command is interrupted; then the service runs as before.',
    examples: ['armature dev orders'],
    timeout: '24h',
    run: async ([service], _options, invocation) =>
      (await import('../mesh/restart.ts')).developService(service!, invocation),
  });
}

function addLooking(program: Command): void {
  addCommand(program, {
    usage: 'status',
    summary: 'Show what runs; the exit code is 1 unless all of it is ready',
    examples: ['armature status', 'armature status --json'],
    timeout: '30s',
    json: true,
    run: async (_, _options, invocation) => (await import('../mesh/status.ts')).showStatus(invocation),
  });
  addCommand<{ lines: number; follow?: boolean }>(program, {
    usage: 'logs [name]',
    summary: 'Show the log of a service or server',
    description: `Shows the end of a log. Services: ${serviceNames.join(', ')}; also mysql, rabbitmq and supervisor.`,
    examples: ['armature logs orders', 'armature logs orders --lines 1000 --no-follow | grep error'],
    timeout: '24h',
    options: [
      new Option('--lines <number>', 'how many lines of the end').argParser(wholeNumber(0, 1_000_000)).default(100),
      new Option('--follow', 'go on with what is added; the default on a terminal'),
      new Option('--no-follow', 'end after what there is'),
    ],
    run: async ([name], { lines, follow = process.stdout.isTTY === true }, { deadline }) =>
      (await import('../mesh/logs.ts')).showLog(name, { lines, follow }, deadline),
  });
  const certs = addCommand(program, {
    usage: 'certs',
    summary: 'Renew certificates that are about to end, or change their authority',
    description:
      'Renews certificates that end within a week. start, switch and retire replace the authority in three steps while everything runs.',
    examples: ['armature certs', 'armature certs start'],
    timeout: '2m',
    json: true,
    run: async ([step], _, invocation) => (await import('../mesh/certs.ts')).renewCertificates(step!, invocation),
  });
  const steps = ['renew', 'start', 'switch', 'retire'];
  certs.addArgument(new Argument('[step]', 'what to do').choices(steps).default('renew'));
}

function addSecrets(program: Command): void {
  const secrets = addCommand<{ force?: boolean }>(program, {
    usage: 'secrets',
    summary: 'Replace the secrets that services seal, hash and sign with',
    description:
      'Shows how far a replacement has come. start, switch and retire replace the secrets in three steps, each of which restarts the services one after another. retire refuses while anything needs the earlier version; --force ends links, cookies and stored requests that do.',
    examples: ['armature secrets', 'armature secrets start', 'armature secrets retire --force'],
    timeout: '10m',
    json: true,
    options: [
      new Option('--force', 'retire: end links in e-mails, cookies and stored requests of the earlier version'),
    ],
    run: async ([step], options, invocation) =>
      (await import('../mesh/secrets.ts')).changeSecrets(step!, options, invocation),
  });
  const steps = ['status', 'start', 'switch', 'retire'];
  secrets.addArgument(new Argument('[step]', 'what to do').choices(steps).default('status'));
}

function addDemonstration(program: Command): void {
  addCommand(program, {
    usage: 'demo',
    summary: 'Start everything, place orders, and show what happens',
    examples: ['armature demo'],
    timeout: '15m',
    run: async (_, _options, invocation) => (await import('../mesh/lifecycle.ts')).demonstrate(invocation),
  });
  addCommand(program, {
    usage: 'seed',
    summary: 'Start everything and load the catalogue of the demonstration',
    examples: ['armature seed'],
    timeout: '15m',
    run: async (_, _options, invocation) => (await import('../mesh/lifecycle.ts')).seed(invocation),
  });
}
