import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';
import t from 'tap';
import { catalogue, variantsOf } from '../scripts/demo/catalogue.ts';
import { repository } from '../scripts/devmesh/state.ts';
import { compileProjects, install, run, writeProjects } from '../test/support/consumers.ts';
import { blocksOf, checkout, commandsOf } from '../test/support/readme.ts';
import { developerCredentials, type Mesh, startMesh, token } from '../test/support/service.ts';
import * as clients from './index.ts';

/** Of the examples in README.md and of the demo's catalogue. */
const sku = 'MUG-ALBA-1';
const price = variantsOf(catalogue()).find((variant) => variant.sku === sku)!.eurMinor;

const room = mkdtempSync(join(tmpdir(), 'armature-pack-'));
t.setTimeout(120_000);
t.teardown(() => rmSync(room, { recursive: true, force: true }));
const consumer = join(room, 'consumer');

const [mesh, copy] = await bothDone([startShop(), packAndInstall()]);

t.test('packing leaves no trace in the repository', (t) => {
  t.same(copy.after, copy.before);
  t.end();
});

t.test('the package depends on published packages only', (t) => {
  const packed = JSON.parse(readFileSync(join(consumer, 'node_modules/@armature/clients/package.json'), 'utf8'));
  t.same(Object.keys(packed.dependencies), ['@bufbuild/protobuf', '@grpc/grpc-js']);
  t.match(packed, { name: '@armature/clients', license: 'Apache-2.0', engines: { node: '>=20' }, type: 'module' });
  t.notOk('private' in packed);
  const files = tree(join(consumer, 'node_modules/@armature/clients'));
  t.ok(['LICENSE', 'README.md', 'dist/index.js', 'dist/index.mjs', 'dist/index.d.ts'].every((file) => files.has(file)));
  const strange = [...files.keys()].filter(
    (file) => !/^(LICENSE|README\.md|(dist\/)?package\.json|dist\/(.+\.(js|d\.ts)|index\.(d\.mts|mjs)))$/.test(file),
  );
  t.same(strange, []);
  t.end();
});

t.test('the table of README.md has a row for each client', (t) => {
  const rows = [
    ...readFileSync(join(repository, 'clients/README.md'), 'utf8').matchAll(
      /^\| `(\w+Client)`[^|]* \| `ARMATURE_PEER_([^`]+)` \| `(\w+)` \|$/gm,
    ),
  ];
  t.same(
    rows.map(([, client]) => client).sort(),
    Object.keys(clients)
      .filter((name) => name.endsWith('Client'))
      .sort(),
  );
  for (const [, client, service = '', namespace = ''] of rows) {
    t.ok(namespace in clients, `${client}: ${namespace}`);
    if (service === '<SERVICE>') continue;
    const missing = () => clients.clientConfig(service.toLowerCase() as clients.ServiceName, {});
    t.throws(missing, { message: new RegExp(`ARMATURE_PEER_${service} is not set`) });
  }
  t.end();
});

t.test('a project outside the repository', async (t) => {
  const samples = ['clients/README.md', 'README.md'].flatMap((path) => blocksOf(path, 'ts'));
  t.equal(samples.length, 3);
  writeProjects(consumer, samples);

  await t.test('compiles as ESM and CommonJS under node16, nodenext and bundler, without @types/node', async (t) => {
    t.equal(await compileProjects(consumer), '');
  });

  const credentials = await developerCredentials();
  const env = {
    ARMATURE_PEER_ORDERS: mesh.orders!.grpc,
    ARMATURE_TLS_CERT_FILE: credentials.certFile,
    ARMATURE_TLS_KEY_FILE: credentials.keyFile,
    ARMATURE_TLS_CA_FILE: credentials.caFile,
    ARMATURE_TOKEN: await token('ada'),
  };
  for (const node of await nodes()) {
    await t.test(`runs the example of the README on Node ${node.version}`, async (t) => {
      const { stdout, stderr } = await run(node.path, ['esm/sample0.js'], { cwd: consumer, env }).catch(
        (error) => error,
      );
      t.equal(stderr, '');
      t.match(stdout, /^1 placed\n(\d+ \w+\n)+\d+ completed\npaid \d+ cents\n$/);
      t.ok(stdout.endsWith(`paid ${2n * price} cents\n`), stdout);
    });
    await t.test(`makes a call from CommonJS on Node ${node.version}`, async (t) => {
      const { stdout, stderr } = await run(node.path, ['cjs/call.js'], { cwd: consumer, env }).catch((error) => error);
      t.equal(stderr, '');
      t.equal(stdout, 'states ORDER_STATE_COMPLETED\nsame class true\nsame names true\n');
    });
  }
});

/** What README.md says, with the ports of this mesh. */
const here = (text: string): string =>
  text
    .replaceAll('localhost:7403', mesh.payments!.grpc)
    .replaceAll('localhost:7404', mesh.orders!.grpc)
    .replaceAll('127.0.0.1', 'localhost');

t.test('README.md places orders without the clients', async (t) => {
  const { certFile } = await developerCredentials();
  const tokens = { 'customer:ada': await token('ada'), 'staff:bo': await token('bo') };
  const { folder, env } = checkout(join(room, 'checkout'), dirname(certFile), tokens);
  const transcripts = blocksOf('README.md', '');
  const shell = (marks: string[]) => {
    const commands = transcripts.filter((text) => marks.some((mark) => text.includes(mark))).flatMap(commandsOf);
    const script = ['set -e', ...commands.map(here)].join('\n');
    return run('bash', ['-c', script], { cwd: folder, env }).catch(
      (error: { stdout: string; stderr: string }) => error,
    );
  };

  await t.test('with buf curl', async (t) => {
    const { stdout, stderr } = await shell(['npx buf curl']);
    t.equal(stderr, '');
    t.match(stdout, /armature\.orders\.v1\.OrderService\/PlaceOrder/);
    t.match(stdout, /"balanced": true/);
    t.match(stdout, /"customerId": "ada",\s*"state": "ORDER_STATE_PENDING"/);
  });

  const missing = await missingForPython();
  await t.test('with Python', { skip: missing }, async (t) => {
    writeFileSync(join(folder, 'place_order.py'), here(blocksOf('README.md', 'python')[0]!));
    const { stdout, stderr } = await shell(['grpc_python_plugin', 'place_order.py']);
    t.equal(stderr, '');
    t.match(stdout, /^1 placed\n(\d+ \w+\n)+\d+ completed\n$/);
  });
});

/** What README.md installs for Python and this machine lacks; false when nothing is missing. */
async function missingForPython(): Promise<string | false> {
  const imported = run('/usr/bin/python3', ['-c', 'import grpc, google.protobuf']);
  const found = await Promise.allSettled([imported, run('protoc', ['--version'])]);
  const whole = existsSync('/usr/bin/grpc_python_plugin') && found.every(({ status }) => status === 'fulfilled');
  return whole ? false : 'needs the Debian packages python3-grpcio and protobuf-compiler-grpc';
}

async function startShop(): Promise<Mesh> {
  const mesh = await startMesh(t, ['catalog', 'inventory', 'payments', 'acquirer', 'orders']);
  const [tls, bo] = await Promise.all([developerCredentials(), token('bo')]);
  const to = (name: string) => ({ addresses: [mesh[name]!.grpc], tls, token: () => bo });
  const [catalog, stock] = [clients.catalogClient(to('catalog')), clients.inventoryClient(to('inventory'))];
  const { categoryId } = await catalog.createCategory({ slug: 'mugs', title: 'Mugs' });
  const variants = [{ sku, title: 'Blue', prices: [{ currencyCode: 'EUR', amountMinor: price }] }];
  await catalog.createProduct({ categoryId, title: 'Mug', variants });
  await stock.receiveStock({ locationId: 'main', lines: [{ sku, quantity: 100n }] });
  catalog.close();
  stock.close();
  return mesh;
}

/** Returns the files of the repository's copy before and after packing. */
async function packAndInstall(): Promise<{ before: Map<string, string>; after: Map<string, string> }> {
  const copy = copyRepository(join(room, 'repository'));
  const before = tree(copy);
  // The first is a packing that was cut short; the second has to make up for it.
  await npm(['run', 'prepack'], join(copy, 'clients'));
  await npm(['pack', '--pack-destination', room], join(copy, 'clients'));
  const after = tree(copy);
  const tarball = readdirSync(room).find((name) => name.endsWith('.tgz')) ?? '';
  await install(join(room, tarball), consumer);
  return { before, after };
}

/**
 * What packing needs of the repository, in another place: while npm packs, the package.json of this folder is
 * another one, which tests that run at the same time must not meet.
 */
function copyRepository(to: string): string {
  const skipped = ['node_modules', 'dist', '.tap'];
  for (const part of [
    'package.json',
    'tsconfig.json',
    'LICENSE',
    'clients',
    'proto',
    'services/runtime',
    'scripts/node/node24.mjs',
  ]) {
    cpSync(join(repository, part), join(to, part), {
      recursive: true,
      filter: (source) => !skipped.includes(basename(source)),
    });
  }
  const packages = join(to, 'node_modules');
  mkdirSync(join(packages, '@armature'), { recursive: true });
  for (const name of readdirSync(join(repository, 'node_modules'))) {
    if (name !== '@armature') symlinkSync(join(repository, 'node_modules', name), join(packages, name));
  }
  symlinkSync(join(to, 'proto'), join(packages, '@armature', 'proto'));
  symlinkSync(join(to, 'services', 'runtime'), join(packages, '@armature', 'runtime'));
  return to;
}

/** Without what an npm further up says of itself, such as the folder that it works in. */
async function npm(args: string[], cwd: string): Promise<void> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^npm_(package|lifecycle|config_local|config_workspace)/.test(name),
  );
  await run('npm', args, { cwd, env: Object.fromEntries(inherited) });
}

/** Every file below a folder, with the hash of its content. Links are not followed. */
function tree(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort();
  return new Map(
    paths.map((path) => [path.slice(folder.length + 1), createHash('sha256').update(readFileSync(path)).digest('hex')]),
  );
}

/** This Node, and the one of the machine where that is another one and new enough. */
async function nodes(): Promise<{ path: string; version: string }[]> {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => !folder.includes('node_modules'));
  const found = [{ path: process.execPath, version: process.versions.node }];
  for (const path of folders.map((folder) => join(folder, 'node'))) {
    const version = await run(path, ['--version']).then(
      ({ stdout }) => stdout.trim().slice(1),
      () => '0: not there, or it does not run',
    );
    if (Number.parseInt(version, 10) >= 20 && found.every((node) => node.version !== version))
      found.push({ path, version });
  }
  return found;
}

/** Waits for both, also when one fails: a test must not end while something is still being started. */
async function bothDone<A, B>(both: [Promise<A>, Promise<B>]): Promise<[A, B]> {
  await Promise.allSettled(both);
  return Promise.all(both);
}
