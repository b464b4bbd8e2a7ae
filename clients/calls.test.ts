import { randomUUID } from 'node:crypto';
import t from 'tap';
import { refusal } from '../test/support/refusal.ts';
import { developerCredentials, startService, token } from '../test/support/service.ts';
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
    await t.rejects(call(env), refusal({ code: 'PERMISSION_DENIED' }), 'a call without a user');
    await t.rejects(call({ ...env, ARMATURE_TOKEN: 'x.y.z' }), refusal({ code: 'UNAUTHENTICATED' }));
  });
  await t.test('says all that is missing at once', async (t) => {
    t.throws(() => clientConfig('orders', { ARMATURE_PEER_ORDERS: 'nowhere', ARMATURE_TLS_CERT_FILE: 'a.pem' }), {
      name: 'ConfigError',
      message: /PEER_ORDERS: "nowhere" is not host:port.*TLS_KEY_FILE is not set.*TLS_CA_FILE is not set/s,
    });
  });
});
