import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import type { Command } from 'commander';
import t from 'tap';
import { repository } from '../../devmesh/state.ts';
import { buildProgram } from '../program.ts';
import { candidates, commandValues, optionValues } from './candidates.ts';
import { completionScripts } from './scripts.ts';

const program = buildProgram();

const rows: { name: string; line: string; has: string[]; lacks?: string[] }[] = [
  { name: 'commands', line: 'armature ', has: ['call', 'dead-letters', 'prove', 'up'], lacks: ['__complete'] },
  { name: 'a command that was begun', line: 'armature re', has: ['reconcile', 'restart'], lacks: ['call'] },
  { name: 'commands of a group', line: 'armature dead-letters ', has: ['drop', 'list', 'redrive', 'show'] },
  { name: 'options', line: 'armature sagas list --st', has: ['--state'], lacks: ['--service'] },
  { name: 'choices', line: 'armature sagas list --state ', has: ['running', 'stuck'] },
  { name: 'services', line: 'armature sagas list --service or', has: ['orders'], lacks: ['payments'] },
  { name: 'principals', line: 'armature call X/Y --as customer:', has: ['customer:ada'], lacks: ['staff:bo'] },
  {
    name: 'methods',
    line: 'armature call OrderService/',
    has: ['OrderService/PlaceOrder'],
    lacks: ['LedgerService/ListEntries'],
  },
  {
    name: 'methods after an option',
    line: 'armature call --as admin AccessService/Gr',
    has: ['AccessService/GrantRole'],
  },
  { name: 'several arguments', line: 'armature restart orders pay', has: ['payments'] },
  { name: 'choices of an argument', line: 'armature certs s', has: ['start', 'switch'], lacks: ['retire'] },
  { name: 'parts', line: 'armature prove --only cr', has: ['crash', 'crash-1'] },
];

for (const { name, line, has, lacks = [] } of rows) {
  t.test(name, async (t) => {
    const found = candidates(program, line);
    t.same(
      has.filter((one) => !found.includes(one)),
      [],
    );
    t.same(
      lacks.filter((one) => found.includes(one)),
      [],
    );
  });
}

t.test('files are left to the shell', async (t) => {
  t.same(candidates(program, 'armature access matrix --file '), []);
  t.same(candidates(program, 'armature test scr'), []);
  t.same(candidates(program, 'armature dead-letters show id '), []);
});

t.test('every table of values belongs to an argument or an option that exists', async (t) => {
  const all = (command: Command, path: string[] = []): string[] => [
    ...command.options.map(({ long }) => `${path.join(' ')} ${long}`),
    ...(command.usage().match(/[<[][a-z.]+[\]>]/g) ?? []).map((argument) => `${path.join(' ')} ${argument}`),
    ...command.commands.flatMap((one) => all(one, [...path, one.name()])),
  ];
  const known = all(program);
  t.same(
    Object.keys(commandValues).filter((name) => !known.includes(name)),
    [],
  );
  t.same(
    Object.keys(optionValues).filter((name) => !known.some((one) => one.endsWith(` ${name}`))),
    [],
  );
});

/** What bash proposes for a line, with the words of a colon as bash splits them. */
function bash(line: string): string[] {
  const script = `
    PATH=${join(repository, 'scripts', 'cli')}:$PATH
    source <(armature completion bash)
    COMP_LINE=$1 COMP_POINT=\${#1}
    _armature armature
    printf '%s\\n' "\${COMPREPLY[@]}"
    complete -p armature`;
  // Bash runs ~/.bashrc if its input is a socket, as that of spawned processes is.
  const run = spawnSync('bash', ['--norc', '-c', script, 'bash', line], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  return run.stdout.trimEnd().split('\n');
}

t.test('in bash', async (t) => {
  t.same(bash('armature st'), ['status', 'complete -o default -F _armature armature']);
  t.same(
    bash('armature call --as customer:a').slice(0, -1),
    ['ada', 'alan'],
    'what is before the colon is there already',
  );
  t.same(bash('armature call OrderService/Pl').slice(0, -1), ['OrderService/PlaceOrder']);
  t.same(bash('armature access matrix --file x').slice(0, -1), [''], 'files are completed by bash itself');
});

const noZsh = spawnSync('zsh', ['--version']).error ? 'zsh is not installed' : false;
t.test('in zsh', { skip: noZsh }, async (t) => {
  const script = `
    PATH=${join(repository, 'scripts', 'cli')}:$PATH
    compdef() { print -r -- "compdef $*" }
    compadd() { shift; print -rl -- "$@" }
    _files() { print files }
    ${completionScripts.zsh}
    words=(armature call --as customer:a) CURRENT=4 PREFIX=customer:a
    _armature
    words=(armature access matrix --file x) CURRENT=5 PREFIX=x
    _armature`;
  const run = spawnSync('zsh', ['-f', '-c', script], { encoding: 'utf8' });
  t.equal(run.stderr, '');
  t.equal(run.stdout, 'compdef _armature armature\ncustomer:ada\ncustomer:alan\nfiles\n');
});
