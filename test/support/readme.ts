// Commands and samples of README.md, for a test that runs them as they are written.
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from '../../scripts/devmesh/state.ts';

/** The fenced blocks of a document in this language; '' for blocks without one. */
export function blocksOf(path: string, language: string): string[] {
  const text = readFileSync(join(repository, path), 'utf8');
  return [...text.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].flatMap(([, found, block]) =>
    found === language ? [block!] : [],
  );
}

/**
 * The commands of a transcript: lines that begin with "$ ", with the lines that continue them. A here document ends at
 * its END, another command at the line that has no backslash at its end.
 */
export function commandsOf(transcript: string): string[] {
  const commands: string[] = [];
  let open = '';
  for (const line of transcript.split('\n')) {
    if (!open && !line.startsWith('$ ')) continue;
    const text = open ? `${open}\n${line}` : line.slice(2);
    const unfinished = text.includes('<<END') ? line !== 'END' : line.endsWith('\\');
    open = unfinished ? text : '';
    if (!unfinished) commands.push(text);
  }
  return commands;
}

/** A folder with what commands of README.md find in the root of the repository while a mesh runs. */
export interface Checkout {
  folder: string;
  env: NodeJS.ProcessEnv;
}

/** Makes such a folder. `make token` prints the token of the account that AS names. */
export function checkout(folder: string, certificates: string, tokens: Record<string, string>): Checkout {
  mkdirSync(join(folder, '.run'), { recursive: true });
  mkdirSync(join(folder, 'bin'));
  symlinkSync(certificates, join(folder, '.run', 'certificates'));
  for (const name of ['node_modules', 'proto']) symlinkSync(join(repository, name), join(folder, name));
  const cases = Object.entries(tokens).map(([account, token]) => `'-s token AS=${account}') echo '${token}' ;;`);
  const make = ['#!/bin/sh', 'case "$*" in', ...cases, '*) echo "unexpected: make $*" >&2; exit 1 ;;', 'esac', ''];
  writeFileSync(join(folder, 'bin', 'make'), make.join('\n'), { mode: 0o755 });
  return { folder, env: { ...process.env, PATH: `${join(folder, 'bin')}:${process.env.PATH}` } };
}
