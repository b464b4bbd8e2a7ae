// Projects outside the repository that use the packed clients: one for each kind of module, module resolution and set of
// declarations. All of them are compiled by one process.
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { repository } from '../../scripts/devmesh/state.ts';

const execute = promisify(execFile);

/**
 * Runs a program as a shell outside of the tests would. tap writes itself into NODE_OPTIONS of whatever a test starts;
 * env removes it, because the compiler does not start under tap.
 */
export const run = (program: string, args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) =>
  execute('env', ['-u', 'NODE_OPTIONS', program, ...args], options);

/** As strict as a consumer may be. The declarations of the package and of what it needs are checked too. */
const strictest = {
  target: 'es2022',
  lib: ['es2022'],
  types: [] as string[],
  strict: true,
  skipLibCheck: false,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noPropertyAccessFromIndexSignature: true,
  noEmit: true,
};

const withNode = { ...strictest, types: ['node'] };

/** The files of a project are in the folder of its kind of module. */
const projects: readonly { folder: 'esm' | 'cjs'; files: string[]; options: object }[] = [
  ...(['node16', 'nodenext', 'esnext', 'preserve'] as const).flatMap((module) =>
    (['esm', 'cjs'] as const).map((folder) => ({
      folder,
      files: ['types.ts'],
      options: {
        ...strictest,
        module,
        moduleResolution: module.startsWith('node') ? module : 'bundler',
        verbatimModuleSyntax: folder === 'esm',
      },
    })),
  ),
  { folder: 'esm', files: ['signal.ts'], options: { ...strictest, module: 'nodenext', lib: ['es2022', 'dom'] } },
  {
    folder: 'esm',
    files: ['signal.ts', 'sample*.ts'],
    options: { ...withNode, module: 'nodenext', noEmit: false },
  },
  { folder: 'cjs', files: ['signal.ts', 'call.ts'], options: { ...withNode, module: 'node16', noEmit: false } },
];

/** What the types must say: the compiler objects to an expectation that is not met. */
const types = `
import {
  catalogClient, type CallOptions, clientConfig, type ConnectOptions, inventory, inventoryClient, type Money, orders, RpcError,
} from '@armature/clients';

export async function checks(options: CallOptions): Promise<Money | undefined> {
  const client = inventoryClient(clientConfig('inventory'));
  // @ts-expect-error quantities are bigint
  await client.receiveStock({ locationId: 'main', lines: [{ sku: 'A', quantity: 1 }] }, options);
  // @ts-expect-error there is no such method
  await client.stealStock({});
  // @ts-expect-error there is no such service
  clientConfig('warehouse');
  const reservation: inventory.Reservation = await client.getReservation({ reservationId: 'r' });
  const reserved: boolean = reservation.state === inventory.ReservationState.RESERVATION_STATE_HELD;
  const expires: Date | undefined = reservation.expireTime;
  for await (const level of client.watchStock({ skus: ['A'] })) return { currencyCode: String(reserved ? expires : ''), amountMinor: level.onHand };
  const { products } = await catalogClient(clientConfig('catalog')).listProducts({});
  return products[0]?.variants[0]?.prices[0];
}

/** A field or an option may be left out or undefined, also under exactOptionalPropertyTypes. */
export async function absent(given: ConnectOptions): Promise<string | undefined> {
  const { addresses, tls } = given;
  const options: ConnectOptions = { addresses, tls, trustDomain: undefined, token: undefined, interceptors: undefined };
  const client = inventoryClient(options);
  await client.batchGetStock({ skus: undefined }, { timeoutMs: undefined, token: undefined, signal: undefined, parent: undefined });
  const error = new RpcError('NOT_FOUND', '', 'none', { cause: undefined, details: { retryDelayMs: undefined, quota: undefined } });
  const wait: number | undefined = error.details.retryDelayMs;
  const violations = error.details.fieldViolations?.map(({ field }) => field);
  return wait ? violations?.[0] : undefined;
}

const names: string[] = [orders.OrderState[1], orders.OrderState[orders.OrderState.ORDER_STATE_PENDING]];
const state: orders.OrderState = orders.OrderState.ORDER_STATE_PENDING;
const reason: orders.OrderErrorReason = orders.OrderErrorReason.ORDER_NOT_FOUND;
const order: orders.Order = orders.Order.fromJSON(orders.Order.toJSON(orders.Order.create({ state })));
export const all = [names, reason, order];
`;

const signal = `
import { inventoryClient, type ConnectOptions } from '@armature/clients';

export async function cancellable(options: ConnectOptions): Promise<void> {
  const signal: AbortSignal = AbortSignal.timeout(1_000);
  await inventoryClient({ ...options, interceptors: () => [(next) => (call) => next({ ...call, signal: call.signal ?? signal })] })
    .batchGetStock({ skus: ['A'] }, { signal });
}
`;

/** Makes a call from CommonJS, and compares what an ES module would get with what this one has. */
const call = `
import { clientConfig, orders, ordersClient, RpcError } from '@armature/clients';

async function main(): Promise<void> {
  const named = await import('@armature/clients');
  const client = ordersClient(clientConfig('orders'));
  try {
    const { orders: page } = await client.listOrders({ customerId: 'ada' });
    console.log('states', ...new Set(page.map(({ state }) => orders.OrderState[state])));
    await client.getOrder({ orderId: 'nonsense' });
  } catch (error) {
    console.log('same class', error instanceof RpcError && error instanceof named.RpcError);
    console.log('same names', Object.keys(named).sort().join() === Object.keys(require('@armature/clients')).sort().join());
  } finally {
    client.close();
  }
}

main();
`;

/** Writes the projects into a folder where the package is installed. The samples of documents are sample0.ts, sample1.ts … */
export function writeProjects(consumer: string, samples: readonly string[]): void {
  for (const [folder, type, files] of [
    [
      'esm',
      'module',
      {
        'types.ts': types,
        'signal.ts': signal,
        ...Object.fromEntries(samples.map((text, index) => [`sample${index}.ts`, text])),
      },
    ],
    ['cjs', 'commonjs', { 'types.ts': types, 'signal.ts': signal, 'call.ts': call }],
  ] as const) {
    mkdirSync(join(consumer, folder));
    writeFileSync(join(consumer, folder, 'package.json'), JSON.stringify({ private: true, type }));
    for (const [name, text] of Object.entries<string>(files)) writeFileSync(join(consumer, folder, name), text);
  }
}

/** Compiles every project. Resolves with the messages of the compiler: none when all is well. */
export async function compileProjects(consumer: string): Promise<string> {
  const configs = projects.map(({ folder, files, options }, index) => {
    const name = `tsconfig.${index}.json`;
    const config = { compilerOptions: options, include: files.map((file) => `${folder}/${file}`) };
    writeFileSync(join(consumer, name), JSON.stringify(config));
    return name;
  });
  const tsc = join(repository, 'node_modules', '.bin', 'tsc');
  const { stdout } = await run(process.execPath, [tsc, '--build', ...configs], { cwd: consumer }).catch(
    (error: { stdout: string }) => error,
  );
  return stdout;
}

/**
 * Installs the packed clients without a registry: what the package depends on, and the types of Node for the projects
 * that have them, come from the packages of the repository.
 */
export async function install(tarball: string, consumer: string): Promise<void> {
  const packed = join(consumer, 'node_modules', '@armature', 'clients');
  mkdirSync(packed, { recursive: true });
  await run('tar', ['-xzf', tarball, '-C', packed, '--strip-components=1']);
  const { dependencies } = JSON.parse(readFileSync(join(packed, 'package.json'), 'utf8'));
  for (const name of [...Object.keys(dependencies), '@types/node']) {
    const link = join(consumer, 'node_modules', name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(repository, 'node_modules', name), link);
  }
}
