// Command lines as help and documents quote them, compared with the armature program and the Makefile.
import type { Command } from 'commander';
import { buildProgram } from '../../scripts/cli/program.ts';
import { read } from './documents.ts';

/** Every command that does something, with its words: "dead-letters list". */
export function leaves(
  command: Command = buildProgram(),
  path: readonly string[] = [],
): { path: string[]; command: Command }[] {
  if (command.commands.length === 0) return command.name().startsWith('_') ? [] : [{ path: [...path], command }];
  return command.commands.flatMap((one) => leaves(one, [...path, one.name()]));
}

/** The words of the first armature command of a line: up to a pipe, a redirection, a comment or a closing parenthesis. */
export function armatureWords(line: string): string[] | undefined {
  const [, text] = /(?:^\s*(?:\$ )?|[(|&]\s*)armature\b ?((?:'[^']*'|[^|)>#])*)/.exec(line) ?? [];
  if (text === undefined) return undefined;
  return [...text.trim().matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
}

/** What commander says against a command line, or undefined where it would run a command. */
export function parseProblem(words: readonly string[]): string | undefined {
  const program = buildProgram();
  let ran = false;
  for (const { command } of leaves(program)) {
    command.action(() => {
      ran = true;
    });
    command.configureOutput({ writeOut: () => undefined, writeErr: () => undefined });
  }
  try {
    program.configureOutput({ writeOut: () => undefined }).parse([...words], { from: 'user' });
    return ran ? undefined : 'nothing ran';
  } catch (error) {
    return words.includes('--help') ? undefined : (error as Error).message;
  }
}

/**
 * What is wrong with an armature command of a text, such as `armature call … --data`: a part of a command line, so that
 * arguments and values may be missing. Commands and flags must exist.
 */
export function quotedProblem(words: readonly string[]): string | undefined {
  let command = buildProgram();
  for (const word of words) {
    const flag = /^\[?(--[a-z-]+)/.exec(word)?.[1];
    if (flag && flag !== '--help' && !command.options.some(({ long }) => long === flag)) {
      return `armature ${command.name()} has no ${flag}`;
    }
    if (command.commands.length === 0 || flag || /[…<[]/.test(word)) continue;
    const found = command.commands.find((one) => one.name() === word.replace(/,$/, ''));
    if (!found) return `there is no command ${word}`;
    command = found;
  }
  return undefined;
}

/** The targets of the Makefile that `make help` lists, each with the variables that its recipe reads. */
export function makeTargets(): Map<string, Set<string>> {
  const rules = read('Makefile').matchAll(/^([a-z][a-z-]*):.*##.*\n((?:\t.*\n)*)/gm);
  return new Map(
    [...rules].map(([, name, recipe]) => {
      const read = recipe!.matchAll(/\$\((?:call (?:flag|switch),)?([A-Z][A-Z_]*)\b|\$\$\{([A-Z][A-Z_]*)/g);
      return [name!, new Set([...read].map(([, one, other]) => one ?? other!))];
    }),
  );
}

/** The make commands of a line: target and the names of its variables. Flags of make and `-C folder` are skipped. */
export function makeCommands(line: string): { target: string; variables: string[] }[] {
  const pattern =
    /(?:^|[\s($`])make((?: -C [\w.]+| -\w)*)((?: (?:[a-z][a-z-]*|[A-Z][A-Z_]*=(?:'[^']*'|"[^"]*"|[^\s)]*)))+)/g;
  return [...line.matchAll(pattern)].map(([, , rest]) => {
    const words = [...rest!.matchAll(/ ([a-z][a-z-]*|[A-Z][A-Z_]*)(=(?:'[^']*'|"[^"]*"|\S*))?/g)];
    return {
      target: words.find(([, , value]) => value === undefined)?.[1] ?? '',
      variables: words.flatMap(([, name, value]) => (value === undefined ? [] : [name!])),
    };
  });
}
