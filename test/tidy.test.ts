// Checks the repository against its house style. Each rule is first tested with a bad example.
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { repository } from '../scripts/devmesh/state.ts';
import { runtimeBackEdges } from './support/runtime-folders.ts';
import { rules } from './support/tidy.ts';

const lines = (count: number) => Array.from({ length: count }, (_, i) => `const line${i} = 0;`).join('\n');
/** The rules apply to this file too, so it does not contain these imports literally. */
const importOf = (specifier: string) => `import { x } from '${specifier}';`;
const later = ['TO', 'DO'].join('');
/** In halves for the same reason. */
const hidden = ['no', 'body'].join('');
const queues = ['la', 'nes'].join('');
const postponed = ['pu', 't off'].join('');
const decision = '# Queues are durable\n\n## Context\n\nx\n\n## Decision\n\nx\n\n## Consequences\n\nx\n';

const examples: { name: string; rule: keyof typeof rules; path: string; text: string; bad: boolean }[] = [
  { name: 'a vague file name', rule: 'namesSaySomething', path: 'services/orders/utils.ts', text: '', bad: true },
  {
    name: 'a vague word in a name',
    rule: 'namesSaySomething',
    path: 'services/orders/order-helper.ts',
    text: '',
    bad: true,
  },
  { name: 'a vague folder', rule: 'namesSaySomething', path: 'services/common/money.ts', text: '', bad: true },
  {
    name: 'a name that only holds such letters',
    rule: 'namesSaySomething',
    path: 'services/x/database.ts',
    text: '',
    bad: false,
  },
  {
    name: 'environment in a service',
    rule: 'environmentIsReadInOnePlace',
    path: 'services/orders/service.ts',
    text: 'process.env.X',
    bad: true,
  },
  {
    name: 'environment by brackets',
    rule: 'environmentIsReadInOnePlace',
    path: 'services/orders/service.ts',
    text: "process['env'].X",
    bad: true,
  },
  {
    name: 'environment in config.ts',
    rule: 'environmentIsReadInOnePlace',
    path: 'services/orders/config.ts',
    text: 'process.env.X',
    bad: false,
  },
  {
    name: 'environment in prose',
    rule: 'environmentIsReadInOnePlace',
    path: 'services/orders/service.ts',
    text: '// never process.env',
    bad: false,
  },
  {
    name: 'a timer of Node in a service',
    rule: 'timeIsInOnePlace',
    path: 'services/orders/service.ts',
    text: importOf('node:timers/promises'),
    bad: true,
  },
  {
    name: 'a timer of Node in the runtime',
    rule: 'timeIsInOnePlace',
    path: 'services/runtime/rpc/server.ts',
    text: importOf('timers/promises'),
    bad: true,
  },
  {
    name: 'a timer of Node in a test',
    rule: 'timeIsInOnePlace',
    path: 'services/orders/service.test.ts',
    text: importOf('node:timers/promises'),
    bad: false,
  },
  {
    name: 'the path of a file URL, still encoded',
    rule: 'pathsAndUsersMayBeAny',
    path: 'services/orders/a.ts',
    text: "readFileSync(new URL('a.txt', import.meta.url).pathname)",
    bad: true,
  },
  {
    name: 'the name of the user',
    rule: 'pathsAndUsersMayBeAny',
    path: 'scripts/devmesh/a.ts',
    text: 'const me = userInfo().username;',
    bad: true,
  },
  {
    name: 'the path of a file URL, decoded',
    rule: 'pathsAndUsersMayBeAny',
    path: 'services/orders/a.ts',
    text: "readFileSync(fileURLToPath(new URL('a.txt', import.meta.url)))",
    bad: false,
  },
  {
    name: 'another service by path',
    rule: 'importsPointOneWay',
    path: 'services/orders/a.ts',
    text: "import { x } from '../payments/b.ts';",
    bad: true,
  },
  {
    name: 'another service by package',
    rule: 'importsPointOneWay',
    path: 'services/orders/a.ts',
    text: "import { x } from '@armature/payments';",
    bad: true,
  },
  {
    name: 'another service, loaded late',
    rule: 'importsPointOneWay',
    path: 'services/orders/a.ts',
    text: "await import('../payments/b.ts')",
    bad: true,
  },
  {
    name: 'another service, exported on',
    rule: 'importsPointOneWay',
    path: 'services/orders/a.ts',
    text: "export * from '../payments/b.ts';",
    bad: true,
  },
  {
    name: 'the runtime',
    rule: 'importsPointOneWay',
    path: 'services/orders/a.ts',
    text: "import { x } from '@armature/runtime';",
    bad: false,
  },
  {
    name: 'its own folder',
    rule: 'importsPointOneWay',
    path: 'services/orders/a.ts',
    text: "import { x } from './b.ts';",
    bad: false,
  },
  {
    name: 'the runtime on clients',
    rule: 'importsPointOneWay',
    path: 'services/runtime/a.ts',
    text: "import { x } from '@armature/clients';",
    bad: true,
  },
  {
    name: 'the runtime on a service',
    rule: 'importsPointOneWay',
    path: 'services/runtime/rpc/a.ts',
    text: "import { x } from '../../orders/b.ts';",
    bad: true,
  },
  {
    name: 'contracts on the runtime',
    rule: 'importsPointOneWay',
    path: 'proto/a.ts',
    text: "import '@armature/runtime';",
    bad: true,
  },
  {
    name: 'production on scripts',
    rule: 'importsPointOneWay',
    path: 'clients/a.ts',
    text: "import '../scripts/devmesh/state.ts';",
    bad: true,
  },
  {
    name: 'a test on test support',
    rule: 'importsPointOneWay',
    path: 'services/orders/a.test.ts',
    text: "import '../../test/support/service.ts';",
    bad: false,
  },
  {
    name: 'production on the testing entry of the runtime',
    rule: 'productionIgnoresTestbeds',
    path: 'services/orders/a.ts',
    text: importOf('@armature/runtime/testing'),
    bad: true,
  },
  {
    name: 'production on a testbed beside it',
    rule: 'productionIgnoresTestbeds',
    path: 'services/orders/a.ts',
    text: importOf('./testbed.ts'),
    bad: true,
  },
  {
    name: 'a test on a testbed',
    rule: 'productionIgnoresTestbeds',
    path: 'services/orders/a.test.ts',
    text: importOf('./testbed.ts'),
    bad: false,
  },
  {
    name: 'a folder of the runtime on a later one',
    rule: 'runtimeIsLayered',
    path: 'services/runtime/db/a.ts',
    text: "import { x } from '../messaging/b.ts';",
    bad: true,
  },
  {
    name: 'a folder of the runtime on a later one, loaded late',
    rule: 'runtimeIsLayered',
    path: 'services/runtime/db/a.ts',
    text: "await import('../rpc/b.ts')",
    bad: true,
  },
  {
    name: 'a folder of the runtime on an earlier one',
    rule: 'runtimeIsLayered',
    path: 'services/runtime/messaging/a.ts',
    text: "import { x } from '../db/b.ts';",
    bad: false,
  },
  {
    name: 'a folder of the runtime on a later one, by package',
    rule: 'runtimeIsLayered',
    path: 'services/runtime/db/tx.ts',
    text: importOf('@armature/runtime/saga'),
    bad: true,
  },
  {
    name: 'a folder of the runtime on a file entry of a later one',
    rule: 'runtimeIsLayered',
    path: 'services/runtime/db/tx.ts',
    text: importOf('@armature/runtime/client'),
    bad: true,
  },
  {
    name: 'a folder of the runtime on an earlier one, by package',
    rule: 'runtimeIsLayered',
    path: 'services/runtime/db/tx.ts',
    text: importOf('@armature/runtime/time'),
    bad: false,
  },
  {
    name: 'a folder of the runtime on the root entry',
    rule: 'runtimeIsLayered',
    path: 'services/runtime/time/sleep.ts',
    text: importOf('../index.ts'),
    bad: true,
  },
  {
    name: 'a folder of the runtime on the root entry, by package',
    rule: 'runtimeIsLayered',
    path: 'services/runtime/time/sleep.ts',
    text: importOf('@armature/runtime'),
    bad: true,
  },
  {
    name: 'a folder of the runtime that is not in the list',
    rule: 'runtimeIsLayered',
    path: 'services/runtime/extras/a.ts',
    text: '',
    bad: true,
  },
  {
    name: 'a file of the runtime from outside',
    rule: 'runtimeIsLayered',
    path: 'services/orders/a.ts',
    text: importOf('@armature/runtime/db/b.ts'),
    bad: true,
  },
  {
    name: 'a file of the runtime from a test, by path',
    rule: 'runtimeIsLayered',
    path: 'test/e2e/a.ts',
    text: importOf('../../services/runtime/db/b.ts'),
    bad: true,
  },
  {
    name: 'an entry of the runtime',
    rule: 'runtimeIsLayered',
    path: 'services/orders/a.ts',
    text: "import { x } from '@armature/runtime/db';",
    bad: false,
  },
  {
    name: 'the ORM in a service',
    rule: 'onlyStoresKnowTheOrm',
    path: 'services/orders/service.ts',
    text: "import { x } from '@mikro-orm/core';",
    bad: true,
  },
  {
    name: 'the ORM in a store',
    rule: 'onlyStoresKnowTheOrm',
    path: 'services/orders/store.ts',
    text: "import { x } from '@mikro-orm/core';",
    bad: false,
  },
  {
    name: 'the ORM in a migration',
    rule: 'onlyStoresKnowTheOrm',
    path: 'services/orders/migrations/0001.ts',
    text: "import '@mikro-orm/migrations';",
    bad: false,
  },
  { name: 'a long file', rule: 'filesAreShort', path: 'services/orders/store.ts', text: lines(501), bad: true },
  {
    name: 'a file of just the length',
    rule: 'filesAreShort',
    path: 'services/orders/store.ts',
    text: `${lines(500)}\n`,
    bad: false,
  },
  { name: 'a long main', rule: 'mainsAreShort', path: 'services/orders/main.ts', text: lines(21), bad: true },
  {
    name: 'a main of just the length',
    rule: 'mainsAreShort',
    path: 'services/orders/main.ts',
    text: `${lines(20)}\n`,
    bad: false,
  },
  {
    name: 'a decision without consequences',
    rule: 'decisionsAreComplete',
    path: 'docs/adr/0001-x.md',
    text: decision.split('## Cons')[0]!,
    bad: true,
  },
  {
    name: 'a decision without a number',
    rule: 'decisionsAreComplete',
    path: 'docs/adr/queues.md',
    text: decision,
    bad: true,
  },
  {
    name: 'a whole decision',
    rule: 'decisionsAreComplete',
    path: 'docs/adr/0001-queues-are-durable.md',
    text: decision,
    bad: false,
  },
  { name: 'work left for later', rule: 'nothingIsLeftForLater', path: 'a.ts', text: `x(); // ${later}: y`, bad: true },
  ...[
    ["form.get('csrf') !== csrfOf(sealing, value)", true],
    ['given === account.passwordHash', true],
    ['request.token != expected', true],
    ['timingSafeEqual(a, b)', true],
    ["form.get('csrf') === null", false],
    ["typeof token === 'string'", false],
    ["nextPageToken !== ''", false],
    ['equalSecrets(token, expected)', false],
  ].map(([expression, bad]) => ({
    name: `a comparison: ${expression}`,
    rule: 'secretsAreComparedInConstantTime',
    path: 'services/identity/a.ts',
    text: `if (${expression}) f();`,
    bad: bad as boolean,
  })),
  { name: 'a word that holds it', rule: 'nothingIsLeftForLater', path: 'a.ts', text: `${later}S`, bad: false },
  {
    name: 'a refused word in a comment',
    rule: 'wordsAreStandard',
    path: 'services/runtime/a.ts',
    text: `// The row ${hidden} reads.`,
    bad: true,
  },
  {
    name: 'a refused word in an identifier',
    rule: 'wordsAreStandard',
    path: 'services/runtime/a.ts',
    text: `const due${queues[0]!.toUpperCase()}${queues.slice(1)} = [];`,
    bad: true,
  },
  {
    name: 'a refused identifier',
    rule: 'wordsAreStandard',
    path: 'services/runtime/a.ts',
    text: `import { ${['world', 'Of'].join('')} } from './b.ts';`,
    bad: true,
  },
  {
    name: 'a refused word in the Makefile',
    rule: 'wordsAreStandard',
    path: 'Makefile',
    text: `# For ${hidden}.`,
    bad: true,
  },
  {
    name: 'the caller without credentials',
    rule: 'wordsAreStandard',
    path: 'Makefile',
    text: `# make token AS=${hidden}`,
    bad: false,
  },
  {
    name: 'a refused phrase in a module of JavaScript',
    rule: 'wordsAreStandard',
    path: 'scripts/a.mjs',
    text: `// An event is ${postponed}.`,
    bad: true,
  },
  {
    name: 'the caller without credentials, outside the help texts',
    rule: 'wordsAreStandard',
    path: 'services/runtime/a.ts',
    text: `// A client or ${hidden}.`,
    bad: true,
  },
  {
    name: 'a word that contains a refused one',
    rule: 'wordsAreStandard',
    path: 'services/runtime/a.ts',
    text: `// planes`,
    bad: false,
  },
  {
    name: 'a refused word in a document',
    rule: 'wordsAreStandard',
    path: 'docs/a.md',
    text: hidden,
    bad: false,
  },
];

t.test('each rule finds bad examples and accepts good ones', async (t) => {
  for (const { name, rule, path, text, bad } of examples) {
    const problems = rules[rule]!({ path, text });
    t.equal(problems.length > 0, bad, `${rule}: ${name}`);
  }
  const covered = new Set(examples.filter(({ bad }) => bad).map(({ rule }) => rule));
  t.same([...covered].sort(), Object.keys(rules).sort(), 'every rule has failed once');
});

t.test('the folders of the runtime depend in one direction', async (t) => {
  const files = globSync('services/runtime/*/**/*.ts', { cwd: repository });
  t.ok(files.length > 100, 'there are files to look at');
  const problems = files.flatMap((path) =>
    runtimeBackEdges({ path, text: readFileSync(join(repository, path), 'utf8') }).map((text) => `${path}: ${text}`),
  );
  t.strictSame(problems, [], 'no import against the order of the folders');
});

const noGit = existsSync(join(repository, '.git')) ? false : 'not a git checkout, so there is no list of our files';
t.test('the repository keeps its rules', { skip: noGit }, async (t) => {
  const paths = execFileSync('git', ['ls-files', '-z'], { cwd: repository, encoding: 'utf8' })
    .split('\0')
    .filter(Boolean);
  const present = paths.filter((path) => existsSync(join(repository, path)));
  t.ok(present.length > 20, 'the list of files is not empty');
  const problems = present.flatMap((path) => {
    const file = { path, text: readFileSync(join(repository, path), 'utf8') };
    return Object.values(rules).flatMap((rule) => rule(file).map((problem) => `${path}: ${problem}`));
  });
  t.same(problems, [], 'no file breaks a rule');
});
