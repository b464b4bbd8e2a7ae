import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import { sleep } from '@armature/runtime/time';
import t from 'tap';
import { anything, secretText } from '../test/support/arbitrary.ts';
import { seeded } from '../test/support/random.ts';
import { refusal } from '../test/support/refusal.ts';
import { developerCredentials, startService, token } from '../test/support/service.ts';
import { amount } from '../test/support/tier.ts';
import { clientConfig, inventory, inventoryClient, ordersClient, RpcError, RuntimeErrorReason } from './index.ts';
import { idle, started } from './testbed.ts';

const service = await startService(t, 'inventory');
const tls = await developerCredentials();
const bo = await token('bo');
const client = inventoryClient({ addresses: [service.grpc], tls, token: () => bo });
t.teardown(() => client.close());

const freshSku = () => `SKU-${randomUUID().slice(0, 8).toUpperCase()}`;
const receive = (sku: string, quantity: bigint) =>
  client.receiveStock({ locationId: 'main', lines: [{ sku, quantity }] });

/** Runs `work` while the service is stopped, so that no response can arrive before it is done. */
async function whileSilent<T>(work: () => Promise<T>): Promise<T> {
  service.process.kill('SIGSTOP');
  try {
    return await work();
  } finally {
    service.process.kill('SIGCONT');
  }
}

t.test('responses are messages of the contract', async (t) => {
  const sku = freshSku();
  const { levels } = await receive(sku, 740_993n);
  t.match(levels, [{ sku, locationId: 'main', onHand: 740_993n, reserved: 0n }]);
  t.same(inventory.StockLevel.toJSON(levels[0]!), {
    sku,
    locationId: 'main',
    onHand: '740993',
    available: '740993',
    version: '1',
  });
});

t.test('errors', async (t) => {
  for (const row of [
    {
      name: 'name every field that breaks a rule',
      call: () => client.receiveStock({ locationId: 'NO', lines: [{ sku: 'fine?', quantity: 0n }] }),
      error: {
        code: 'INVALID_ARGUMENT',
        reason: RuntimeErrorReason.FIELDS_INVALID,
        details: {
          fieldViolations: [
            { field: 'location_id', reason: 'string.pattern' },
            { field: 'lines[0].sku', reason: 'string.pattern' },
            { field: 'lines[0].quantity', reason: 'int64.gte' },
          ],
        },
      },
    },
    {
      name: "carry the contract's reason and its metadata",
      call: () => client.adjustStock({ sku: 'NOT-HERE', locationId: 'main', delta: 1n, note: 'counted' }),
      error: {
        code: 'NOT_FOUND',
        reason: inventory.InventoryErrorReason.SKU_UNKNOWN,
        domain: 'inventory.armature.local',
        metadata: { skus: 'NOT-HERE' },
        from: '/armature.inventory.v1.InventoryService/AdjustStock',
      },
    },
    {
      name: 'say what was not allowed',
      call: () =>
        client.reserveStock({
          reservationId: randomUUID(),
          orderId: randomUUID(),
          lines: [{ sku: 'A', quantity: 1n }],
        }),
      error: {
        code: 'PERMISSION_DENIED',
        reason: RuntimeErrorReason.PERMISSION_DENIED,
        metadata: { permission: 'inventory.reserve' },
      },
    },
    {
      name: 'of a stream reach the loop',
      call: async () => {
        for await (const level of client.watchStock({ skus: [] })) t.fail(`got ${level.sku}`);
      },
      error: { code: 'INVALID_ARGUMENT', details: { fieldViolations: [{ field: 'skus' }] } },
    },
  ]) {
    t.test(row.name, async (t) => {
      const call: Promise<unknown> = row.call();
      const error: unknown = await call.catch((thrown) => thrown);
      t.ok(error instanceof RpcError);
      t.match(error, row.error);
    });
  }

  t.test('are not tried again', async (t) => {
    const before = await started(service, 'AdjustStock');
    await t.rejects(client.adjustStock({ sku: 'NOT-HERE', locationId: 'main', delta: 1n, note: 'counted' }));
    t.equal((await started(service, 'AdjustStock')) - before, 1);
  });
});

t.test('a call ends at its deadline', async (t) => {
  await t.rejects(client.batchGetStock({ skus: ['A'] }, { timeoutMs: 1 }), refusal({ code: 'DEADLINE_EXCEEDED' }));
  const since = performance.now();
  await t.rejects(
    whileSilent(() => client.batchGetStock({ skus: ['A'] }, { timeoutMs: 150 })),
    refusal({ code: 'DEADLINE_EXCEEDED' }),
  );
  const tookMs = performance.now() - since;
  t.ok(tookMs > 140 && tookMs < 1_500, `after ${Math.round(tookMs)} ms`);
});

t.test('a signal ends a call', async (t) => {
  const cancelled = refusal({ code: 'CANCELLED' });
  await t.test('before it starts', (t) =>
    t.rejects(client.batchGetStock({ skus: ['A'] }, { signal: AbortSignal.abort() }), cancelled),
  );
  await t.test('under way', async (t) => {
    const abort = new AbortController();
    await whileSilent(async () => {
      const call = client.batchGetStock({ skus: ['A'] }, { signal: abort.signal });
      setTimeout(() => abort.abort(), 50);
      await t.rejects(call, cancelled);
    });
    await idle(service);
  });
  await t.test('that is a stream', async (t) => {
    const abort = new AbortController();
    const sku = freshSku();
    await receive(sku, 1n);
    const loop = async () => {
      for await (const _ of client.watchStock({ skus: [sku] }, { signal: abort.signal })) abort.abort();
    };
    await t.rejects(loop(), cancelled);
    await idle(service);
  });
});

t.test('streams', async (t) => {
  const sku = freshSku();
  await receive(sku, 1n);
  await t.test('hand out messages as they come, and end on the server when the loop is left', async (t) => {
    const seen: bigint[] = [];
    for await (const { onHand } of client.watchStock({ skus: [sku] })) {
      seen.push(onHand);
      if (seen.length === 3) break;
      await receive(sku, 10n);
    }
    t.same(seen, [1n, 11n, 21n]);
    await idle(service);
  });
  await t.test('end at their deadline', async (t) => {
    const loop = async () => {
      for await (const level of client.watchStock({ skus: [sku] }, { timeoutMs: 300 })) t.equal(level.sku, sku);
    };
    await t.rejects(loop(), refusal({ code: 'DEADLINE_EXCEEDED' }));
    await idle(service);
  });
});

t.test('arguments that cannot be used', async (t) => {
  const stock = { skus: ['A'] };
  for (const row of [
    {
      name: 'a timeout that is not a number',
      call: () => client.batchGetStock(stock, { timeoutMs: Number.NaN }),
      error: { code: 'INVALID_ARGUMENT', message: /timeoutMs must be a number of milliseconds \(got NaN\)/ },
    },
    {
      name: 'a timeout in a text',
      call: () => client.batchGetStock(stock, { timeoutMs: '5000' as never }),
      error: { code: 'INVALID_ARGUMENT', message: /timeoutMs must be a number of milliseconds \(got string\)/ },
    },
    {
      name: 'a timeout that is over',
      call: () => client.batchGetStock(stock, { timeoutMs: -5 }),
      error: { code: 'DEADLINE_EXCEEDED' },
    },
    {
      name: 'a text in place of a bigint',
      call: () => client.receiveStock({ locationId: 'main', lines: [{ sku: 'A', quantity: 'many' as never }] }),
      error: {
        code: 'INVALID_ARGUMENT',
        reason: RuntimeErrorReason.MESSAGE_MALFORMED,
        message: /its field lines is not of the type of the contract/,
        details: { fieldViolations: [{ field: 'lines' }] },
      },
    },
    {
      name: 'a request that is not an object',
      call: () => client.batchGetStock('A' as never),
      error: { code: 'INVALID_ARGUMENT', message: /its request is not an object \(string\)/ },
    },
    {
      name: 'a token with a line end',
      call: () => client.batchGetStock(stock, { token: `${secretText}\n` }),
      error: { code: 'UNAUTHENTICATED', message: /another character at position 20, such as a blank or a line end/ },
    },
    {
      name: 'a token that is too long',
      call: () => client.batchGetStock(stock, { token: secretText.repeat(500) }),
      error: { code: 'UNAUTHENTICATED', message: /more than 8192 characters \(10000\)/ },
    },
    {
      name: 'a signal that is none',
      call: () => client.batchGetStock(stock, { signal: {} as never }),
      error: { code: 'INVALID_ARGUMENT', message: /signal is not an AbortSignal/ },
    },
    {
      name: 'a stream, too',
      call: async () => {
        for await (const level of client.watchStock(stock, { timeoutMs: Number.NaN })) t.fail(`got ${level.sku}`);
      },
      error: { code: 'INVALID_ARGUMENT' },
    },
  ]) {
    await t.test(row.name, async (t) => {
      const called: Promise<unknown> = row.call();
      const error: unknown = await called.catch((thrown) => thrown);
      t.ok(error instanceof RpcError);
      t.match(error, row.error);
      t.notMatch(inspect(error, { depth: 10 }), secretText);
    });
  }
  t.same(
    await client.batchGetStock(stock, { timeoutMs: Number.POSITIVE_INFINITY }),
    { levels: [], unknownSkus: ['A'] },
    'a timeout beyond the maximum is the maximum',
  );
  t.same(await client.batchGetStock(stock, { timeoutMs: undefined, token: undefined, signal: undefined }), {
    levels: [],
    unknownSkus: ['A'],
  });
});

t.test('the token function', async (t) => {
  const ask = async (tokenOption: unknown, timeoutMs = 1_000) => {
    const asking = inventoryClient({ addresses: [service.grpc], tls, token: tokenOption as never });
    try {
      return await asking.batchGetStock({ skus: ['A'] }, { timeoutMs });
    } finally {
      asking.close();
    }
  };
  const found = { levels: [], unknownSkus: ['A'] };
  t.same(await ask(async () => bo), found, 'may be asynchronous');
  t.same(await ask({ token: () => bo }), found, 'may belong to a source');
  const since = performance.now();
  const never = () => new Promise(() => {});
  await t.rejects(ask(never, 100), { name: 'RpcError', code: 'DEADLINE_EXCEEDED' }, 'has the time of the call');
  t.ok(performance.now() - since < 1_000);
  const failures: Record<string, () => unknown> = {
    throws: () => {
      throw new TypeError(secretText);
    },
    rejects: () => Promise.reject(new Error(secretText)),
    'returns a number': () => 7,
    'returns a token with a line end': () => `${secretText}\n`,
  };
  for (const [name, failing] of Object.entries(failures)) {
    const error: unknown = await ask(failing).catch((thrown) => thrown);
    t.match(error, { name: 'RpcError', code: 'UNAUTHENTICATED', message: /token\(\)/ }, name);
    t.notMatch(inspect(error, { depth: 10 }), secretText);
  }
  const thrown = await ask(() => {
    throw new TypeError(secretText);
  }).catch((error) => error);
  t.match(thrown.cause, { message: /TypeError/, stack: /calls\.test\.ts/ }, 'the place is known');
  t.test('is told of a token that the server refuses', async (t) => {
    const refused: string[] = [];
    const source = { token: () => 'x.y.z', refused: (token: string) => refused.push(token) };
    await t.rejects(ask(source), refusal({ code: 'UNAUTHENTICATED' }));
    t.strictSame(refused, ['x.y.z']);
  });
});

t.test('closing a client', async (t) => {
  const closing = inventoryClient({ addresses: [service.grpc], tls, token: () => bo });
  const sku = freshSku();
  await receive(sku, 1n);
  const watching = closing.watchStock({ skus: [sku] })[Symbol.asyncIterator]();
  await watching.next();
  const closed = { name: 'RpcError', code: 'CANCELLED', message: /its client was closed/ };
  await whileSilent(async () => {
    const [next, call] = [watching.next(), closing.batchGetStock({ skus: ['A'] })];
    closing.close();
    await t.rejects(next, closed, 'ends streams');
    await t.rejects(call, closed, 'ends calls');
  });
  closing.close();
  await t.rejects(closing.batchGetStock({ skus: ['A'] }), closed, 'refuses calls');
  await idle(service);
});

t.test('options that cannot be used', async (t) => {
  for (const [options, message] of [
    [{ addresses: [] }, /addresses must name at least one instance/],
    [{ addresses: ['nowhere'] }, /address "nowhere" is not host:port/],
    [{ addresses: [7 as never] }, /address 7 is not host:port/],
    [{ tls: { ...tls, keyFile: '/nowhere/key' } }, /the files of tls cannot be used: ENOENT/],
  ] as const) {
    t.throws(() => inventoryClient({ addresses: [service.grpc], tls, ...options }), {
      name: 'RpcError',
      code: 'INVALID_ARGUMENT',
      message,
    });
  }
});

t.test('whatever the arguments are, a call ends with a response or an RpcError', async (t) => {
  const seed = Number(process.env.ARMATURE_SEED ?? Date.now() % 1_000_000);
  t.comment(`ARMATURE_SEED=${seed}`);
  const random = seeded(seed);
  const fields = ['skus', 'lines', 'locationId', 'sku', 'quantity', 'delta', 'note', 'requestId', '$case', 'value'];
  const names = ['parent', 'timeoutMs', 'token', 'signal'];
  const [clients, calls] = [amount(15, 200), 20];
  let rejected = 0;
  for (let round = 0; round < clients; round += 1) {
    const tokenOption = random.pick([() => bo, anything(random, ['token', 'refused', 'then'])]);
    const own = inventoryClient({ addresses: [service.grpc], tls, token: tokenOption as never });
    const make = () => ({
      message: random.pick([{ skus: ['A'] }, anything(random, fields)]) as never,
      options: random.pick([undefined, anything(random, names)]) as never,
      method: random.pick(['batchGetStock', 'adjustStock', 'watchStock'] as const),
    });
    const outcomes = Array.from({ length: calls }, make).map(async ({ message, options, method }) => {
      if (method !== 'watchStock') return own[method](message, options);
      for await (const level of own.watchStock(message, options)) return level;
      return undefined;
    });
    // Streams without changes and tokens that never come end with the client.
    const all = Promise.allSettled(outcomes);
    await Promise.race([all, sleep(100)]);
    own.close();
    for (const outcome of await all) {
      if (outcome.status === 'fulfilled') continue;
      rejected += 1;
      if (!(outcome.reason instanceof RpcError)) t.fail(inspect(outcome.reason));
      if (inspect(outcome.reason, { depth: 10, showHidden: true }).includes(secretText)) t.fail('a secret in an error');
    }
  }
  t.ok(rejected > clients, `${rejected} of ${clients * calls} calls were rejected`);
});

t.test('a server with the certificate of another service is refused', async (t) => {
  const misled = ordersClient({ addresses: [service.grpc], tls, token: () => bo });
  t.teardown(() => misled.close());
  await t.rejects(misled.getOrder({ orderId: randomUUID() }), {
    code: 'UNAVAILABLE',
    message: /expected service:orders on the other end, found service:inventory/,
  });
});

t.test('configuration', async (t) => {
  const env = {
    ARMATURE_PEER_INVENTORY: service.grpc,
    ARMATURE_TLS_CERT_FILE: tls.certFile,
    ARMATURE_TLS_KEY_FILE: tls.keyFile,
    ARMATURE_TLS_CA_FILE: tls.caFile,
  };
  const call = async (variables: Record<string, string>) => {
    const client = inventoryClient(clientConfig('inventory', variables));
    try {
      return await client.batchGetStock({ skus: ['A'] });
    } finally {
      client.close();
    }
  };
  await t.test('brings certificate and token', async (t) => {
    t.same(await call({ ...env, ARMATURE_TOKEN: bo }), { levels: [], unknownSkus: ['A'] });
    await t.rejects(call(env), refusal({ code: 'UNAUTHENTICATED', reason: 'TOKEN_MISSING' }), 'a call without a user');
    await t.rejects(call({ ...env, ARMATURE_TOKEN: 'x.y.z' }), refusal({ code: 'UNAUTHENTICATED' }));
  });
  await t.test('says all that is missing at once', async (t) => {
    t.throws(() => clientConfig('orders', { ARMATURE_PEER_ORDERS: 'nowhere', ARMATURE_TLS_CERT_FILE: 'a.pem' }), {
      name: 'ConfigError',
      message: /PEER_ORDERS: "nowhere" is not host:port.*TLS_KEY_FILE is not set.*TLS_CA_FILE is not set/s,
    });
  });
});
