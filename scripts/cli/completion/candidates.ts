import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import type { Argument, Command, Option } from 'commander';
import { callableServices, serviceNames, storingServices } from '../../../services/manifest.ts';
import { people, programs } from '../../devmesh/people.ts';
import { logNames } from '../mesh/logs.ts';
import { proofParts } from '../verification/prove.ts';

const principals = (): string[] => [
  ...people.filter(({ role }) => role === 'customer').map(({ id }) => `customer:${id}`),
  ...people.filter(({ role }) => role === 'staff').map(({ id }) => `staff:${id}`),
  ...['admin', 'operator', 'nobody'],
  ...programs.map((id) => `client:${id}`),
  ...callableServices.map((name) => `service:${name}`),
];

/** The methods of all contracts as Service/Method. */
function methods(): string[] {
  const bytes = readFileSync(fileURLToPath(import.meta.resolve('@armature/proto/descriptors.binpb')));
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
  return [...registry.files]
    .filter((file) => file.proto.package.startsWith('armature.'))
    .flatMap((file) => file.services)
    .flatMap((service) => service.methods.map(({ name }) => `${service.name}/${name}`));
}

/** The values of options, by the long name of the option. */
export const optionValues: Readonly<Record<string, () => readonly string[]>> = {
  '--as': principals,
  '--service': () => storingServices,
  '--from': () => storingServices,
  '--to': () => storingServices,
  '--workload': () => ['workload:developer', ...storingServices.map((name) => `service:${name}`)],
};

/** The values of arguments and of options that mean something else elsewhere, by the words of the command. */
export const commandValues: Readonly<Record<string, () => readonly string[]>> = {
  'call [method]': methods,
  'logs [name]': logNames,
  'restart [services...]': () => serviceNames,
  'dev <service>': () => serviceNames,
  'prove --only': () => [...new Set(proofParts.flatMap(({ part }) => [part.replace(/-\d+$/, ''), part]))],
};

/**
 * What the last word of a command line may become. A line that ends with a space asks for the next word. Where files are
 * meant, there is no candidate, and the shell completes names of files.
 */
export function candidates(program: Command, line: string): string[] {
  const [, ...words] = line.trimStart().split(/\s+/);
  const partial = words.pop() ?? '';
  let command = program;
  const path: string[] = [];
  let position = 0;
  let pending: Option | undefined;
  for (const word of words) {
    if (pending) pending = undefined;
    else if (word.startsWith('-')) pending = optionOf(command, word);
    else {
      const next = command.commands.find((one) => one.name() === word);
      if (next) {
        command = next;
        path.push(word);
      } else position++;
    }
  }
  const possible = pending
    ? valuesOfOption(pending, path)
    : partial.startsWith('-')
      ? flagsOf(command)
      : command.commands.length > 0
        ? namesOf(command)
        : valuesOfArgument(command, path, position);
  return [...new Set(possible)].filter((one) => one.startsWith(partial)).sort();
}

/** The option of a word that needs a value in the next word. */
function optionOf(command: Command, word: string): Option | undefined {
  const option = command.options.find(({ long, short }) => word === long || word === short);
  return option && (option.required || option.optional) ? option : undefined;
}

function valuesOfOption({ long, argChoices }: Option, path: readonly string[]): readonly string[] {
  const own = commandValues[`${path.join(' ')} ${long}`] ?? optionValues[long ?? ''];
  return argChoices ?? own?.() ?? [];
}

const flagsOf = (command: Command) => [...command.options.map(({ long }) => long ?? ''), '--help'];

/** Hidden commands, which only programs run, begin with underscores. */
const namesOf = (command: Command) => command.commands.map((one) => one.name()).filter((name) => !name.startsWith('_'));

function valuesOfArgument(command: Command, path: readonly string[], position: number): readonly string[] {
  const all = command.registeredArguments;
  const argument = all[position] ?? (all.at(-1)?.variadic ? all.at(-1) : undefined);
  if (!argument) return [];
  return argument.argChoices ?? commandValues[`${path.join(' ')} ${usageOf(argument)}`]?.() ?? [];
}

/** An argument as usage lines write it: <id>, [id], [files...]. */
function usageOf(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}
