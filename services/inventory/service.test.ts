import { randomUUID } from 'node:crypto';
import { inventoryClient, RpcError } from '@armature/clients';
import { ReservationState } from '@armature/proto/inventory/v1/inventory.ts';
import t from 'tap';
import { refusal } from '../../test/support/refusal.ts';
import { startService, token, workloadCertificate } from '../../test/support/service.ts';

const service = await startService(t, 'inventory', {
  env: { ARMATURE_RESERVATION_TTL_MS: '60000', ARMATURE_EXPIRY_SWEEP_MS: '50' },
});
const addresses = [service.grpc];
const staff = inventoryClient({
  addresses,
  tls: await workloadCertificate('developer'),
  token: (
    (bo) => () =>
      bo
  )(await token('bo')),
});
const orders = inventoryClient({ addresses, tls: await workloadCertificate('orders') });
t.teardown(() => {
  staff.close();
  orders.close();
});

let named = 0;
/** A SKU that no other test uses, with this stock. */
async function freshSku(quantity = 0n): Promise<string> {
  named += 1;
  const sku = `SKU-${named}-${randomUUID().slice(0, 8).toUpperCase()}`;
  if (quantity > 0n) await staff.receiveStock({ locationId: 'main', lines: [{ sku, quantity }] });
  return sku;
}
const stockOf = async (sku: string) => {
  const { levels } = await staff.batchGetStock({ skus: [sku] });
  return levels.map(({ onHand, reserved }) => [onHand, reserved]);
};
const reserve = (lines: { sku: string; quantity: bigint }[], reservationId: string = randomUUID()) =>
  orders.reserveStock({ reservationId, orderId: randomUUID(), lines });

t.test('reserving', async (t) => {
  for (const row of [
    { name: 'reserves available units', stock: 5n, ask: [3n], reserved: 3n },
    { name: 'reserves the last unit', stock: 1n, ask: [1n], reserved: 1n },
    { name: 'reserves nothing when stock is short', stock: 5n, ask: [6n], reason: 'STOCK_INSUFFICIENT', reserved: 0n },
    { name: 'adds up two lines of one SKU', stock: 5n, ask: [3n, 3n], reason: 'STOCK_INSUFFICIENT', reserved: 0n },
  ]) {
    t.test(row.name, async (t) => {
      const sku = await freshSku(row.stock);
      const reserving = reserve(row.ask.map((quantity) => ({ sku, quantity })));
      if (row.reason) await t.rejects(reserving, refusal({ code: 'FAILED_PRECONDITION', reason: row.reason }));
      else t.equal((await reserving).state, ReservationState.RESERVATION_STATE_HELD);
      t.strictSame(await stockOf(sku), [[row.stock, row.reserved]]);
    });
  }

  t.test('reserves nothing when one of several lines is short', async (t) => {
    const [plenty, few] = [await freshSku(10n), await freshSku(1n)];
    const reserving = reserve([
      { sku: plenty, quantity: 1n },
      { sku: few, quantity: 2n },
    ]);
    await t.rejects(reserving, refusal({ reason: 'STOCK_INSUFFICIENT', metadata: { skus: few, available: '1' } }));
    t.strictSame([await stockOf(plenty), await stockOf(few)], [[[10n, 0n]], [[1n, 0n]]]);
  });

  t.test('names SKUs without stock records', async (t) => {
    await t.rejects(
      reserve([{ sku: 'NOT-HERE', quantity: 1n }]),
      refusal({
        code: 'NOT_FOUND',
        reason: 'SKU_UNKNOWN',
        metadata: { skus: 'NOT-HERE' },
      }),
    );
  });

  t.test('splits a line over locations', async (t) => {
    const sku = await freshSku(2n);
    await staff.receiveStock({ locationId: 'annex', lines: [{ sku, quantity: 3n }] });
    const { allocations } = await reserve([{ sku, quantity: 4n }]);
    t.strictSame(
      allocations.map(({ locationId, quantity }) => [locationId, quantity]),
      [
        ['annex', 3n],
        ['main', 1n],
      ],
    );
  });

  t.test('rejects an id that is in use', async (t) => {
    const sku = await freshSku(5n);
    const { reservationId } = await reserve([{ sku, quantity: 1n }]);
    await t.rejects(reserve([{ sku, quantity: 1n }], reservationId), refusal({ reason: 'RESERVATION_EXISTS' }));
    t.strictSame(await stockOf(sku), [[5n, 1n]]);
  });
});

t.test('committing takes the units out of stock once', async (t) => {
  const sku = await freshSku(5n);
  const { reservationId } = await reserve([{ sku, quantity: 2n }]);
  const committed = await orders.commitReservation({ reservationId });
  t.equal(committed.state, ReservationState.RESERVATION_STATE_COMMITTED);
  t.strictSame(await stockOf(sku), [[3n, 0n]]);
  const again = await orders.commitReservation({ reservationId });
  t.equal(again.version, committed.version);
  t.strictSame(await stockOf(sku), [[3n, 0n]]);
  await t.rejects(
    orders.commitReservation({ reservationId: randomUUID() }),
    refusal({ reason: 'RESERVATION_NOT_FOUND' }),
  );
});

t.test('releasing', async (t) => {
  t.test('frees reserved units once', async (t) => {
    const sku = await freshSku(5n);
    const { reservationId, orderId } = await reserve([{ sku, quantity: 2n }]);
    for (let time = 0; time < 2; time += 1) {
      const { state } = await orders.releaseReservation({ reservationId, orderId });
      t.equal(state, ReservationState.RESERVATION_STATE_RELEASED);
      t.strictSame(await stockOf(sku), [[5n, 0n]]);
    }
    await t.rejects(orders.commitReservation({ reservationId }), refusal({ reason: 'RESERVATION_RELEASED' }));
  });

  t.test('returns committed units to stock once', async (t) => {
    const sku = await freshSku(5n);
    const { reservationId, orderId } = await reserve([{ sku, quantity: 2n }]);
    await orders.commitReservation({ reservationId });
    for (let time = 0; time < 2; time += 1) {
      const { state } = await orders.releaseReservation({ reservationId, orderId });
      t.equal(state, ReservationState.RESERVATION_STATE_RETURNED);
      t.strictSame(await stockOf(sku), [[5n, 0n]]);
    }
  });

  t.test('overtakes the reservation it undoes', async (t) => {
    const sku = await freshSku(5n);
    const [reservationId, orderId] = [randomUUID(), randomUUID()];
    const { state } = await orders.releaseReservation({ reservationId, orderId });
    t.equal(state, ReservationState.RESERVATION_STATE_RELEASED);
    await t.rejects(reserve([{ sku, quantity: 1n }], reservationId), refusal({ reason: 'RESERVATION_RELEASED' }));
    t.strictSame(await stockOf(sku), [[5n, 0n]]);
  });
});

t.test('adjusting', async (t) => {
  const sku = await freshSku(5n);
  await reserve([{ sku, quantity: 3n }]);
  const adjust = (delta: bigint) => staff.adjustStock({ sku, locationId: 'main', delta, note: 'counted' });
  t.match(await adjust(-2n), { onHand: 3n, reserved: 3n, available: 0n });
  await t.rejects(adjust(-1n), refusal({ reason: 'STOCK_RESERVED', metadata: { reserved: '3' } }));
  t.match(await adjust(4n), { onHand: 7n });
  await t.rejects(
    staff.adjustStock({ sku: 'NOT-HERE', locationId: 'main', delta: 1n, note: 'x' }),
    refusal({
      reason: 'SKU_UNKNOWN',
    }),
  );
});

t.test('a repeated request gets the stored response; a reused request id is rejected', async (t) => {
  const sku = await freshSku(5n);
  const request = {
    requestId: randomUUID(),
    reservationId: randomUUID(),
    orderId: randomUUID(),
    lines: [{ sku, quantity: 1n }],
  };
  const twins = await Promise.all([orders.reserveStock(request), orders.reserveStock(request)]);
  t.strictSame(twins[0], twins[1]);
  t.strictSame(await orders.reserveStock(request), twins[0]);
  t.strictSame(await stockOf(sku), [[5n, 1n]]);
  await t.rejects(
    orders.reserveStock({ ...request, lines: [{ sku, quantity: 2n }] }),
    refusal({
      code: 'INVALID_ARGUMENT',
      reason: 'REQUEST_ID_REUSED',
    }),
  );
});

t.test('a repeated request gets the stored refusal although stock has arrived', async (t) => {
  const sku = await freshSku(1n);
  const request = {
    requestId: randomUUID(),
    reservationId: randomUUID(),
    orderId: randomUUID(),
    lines: [{ sku, quantity: 2n }],
  };
  await t.rejects(orders.reserveStock(request), refusal({ reason: 'STOCK_INSUFFICIENT' }));
  await staff.receiveStock({ locationId: 'main', lines: [{ sku, quantity: 5n }] });
  await t.rejects(orders.reserveStock(request), refusal({ reason: 'STOCK_INSUFFICIENT', metadata: { skus: sku } }));
  t.strictSame(await stockOf(sku), [[6n, 0n]]);
});

t.test('200 concurrent requests for 50 units reserve exactly 50', async (t) => {
  const sku = await freshSku(50n);
  // On a busy machine a call may pass its deadline; the repeat has the same request id.
  const reserveWithRetries = async (): Promise<string> => {
    const request = {
      requestId: randomUUID(),
      reservationId: randomUUID(),
      orderId: randomUUID(),
      lines: [{ sku, quantity: 1n }],
    };
    for (let attempt = 1; ; attempt += 1) {
      try {
        await orders.reserveStock(request, { timeoutMs: 10_000 });
        return 'reserved';
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        const again = ['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED', 'ABORTED'].includes(error.code);
        if (!again || attempt === 10) return error.reason;
      }
    }
  };
  const outcomes = await Promise.all(Array.from({ length: 200 }, reserveWithRetries));
  t.equal(outcomes.filter((outcome) => outcome === 'reserved').length, 50);
  t.equal(outcomes.filter((outcome) => outcome === 'STOCK_INSUFFICIENT').length, 150);
  t.strictSame(await stockOf(sku), [[50n, 50n]]);
});

t.test('orders with the same SKUs in opposite order all succeed', async (t) => {
  const [a, b] = [await freshSku(100n), await freshSku(100n)];
  const reservations = Array.from({ length: 60 }, (_, index) => {
    const lines = [a, b].map((sku) => ({ sku, quantity: 1n }));
    return reserve(index % 2 ? lines : lines.reverse());
  });
  await Promise.all(reservations);
  t.strictSame([await stockOf(a), await stockOf(b)], [[[100n, 60n]], [[100n, 60n]]]);
});

t.test('expired reservations return their units', async (t) => {
  const brief = await startService(t, 'inventory', {
    env: { ARMATURE_RESERVATION_TTL_MS: '200', ARMATURE_EXPIRY_SWEEP_MS: '20' },
  });
  const tls = await workloadCertificate('orders');
  const client = inventoryClient({ addresses: [brief.grpc], tls });
  const bo = await token('bo');
  const counter = inventoryClient({
    addresses: [brief.grpc],
    tls: await workloadCertificate('developer'),
    token: () => bo,
  });
  await counter.receiveStock({ locationId: 'main', lines: [{ sku: 'BRIEF', quantity: 3n }] });
  const watched = counter.watchStock({ skus: ['BRIEF'] })[Symbol.asyncIterator]();
  t.match((await watched.next()).value, { onHand: 3n, reserved: 0n });
  const { reservationId } = await client.reserveStock({
    reservationId: randomUUID(),
    orderId: randomUUID(),
    lines: [{ sku: 'BRIEF', quantity: 2n }],
  });
  t.match((await watched.next()).value, { reserved: 2n, available: 1n });
  t.match((await watched.next()).value, { reserved: 0n, available: 3n });
  await watched.return?.(undefined);
  t.match(await client.getReservation({ reservationId }), { state: ReservationState.RESERVATION_STATE_EXPIRED });
  await t.rejects(client.commitReservation({ reservationId }), refusal({ reason: 'RESERVATION_EXPIRED' }));
  client.close();
  counter.close();
});

t.test('many releases of one reservation at once do not deadlock', async (t) => {
  const deadlocks = async () => {
    const page = await (await fetch(`http://${service.admin}/metrics`)).text();
    return Number(/armature_db_transaction_retries_total{[^}]*reason="deadlock"[^}]*} (\d+)/.exec(page)?.[1] ?? 0);
  };
  const before = await deadlocks();
  for (let round = 0; round < 10; round += 1) {
    const sku = await freshSku(1n);
    const { reservationId, orderId } = await reserve([{ sku, quantity: 1n }]);
    const released = await Promise.all(
      Array.from({ length: 10 }, () => orders.releaseReservation({ reservationId, orderId }, { timeoutMs: 20_000 })),
    );
    for (const { state } of released) t.equal(state, ReservationState.RESERVATION_STATE_RELEASED);
    t.strictSame(await stockOf(sku), [[1n, 0n]]);
  }
  t.equal(await deadlocks(), before);
});

t.test('many releases of an unknown reservation leave one tombstone', async (t) => {
  const [reservationId, orderId] = [randomUUID(), randomUUID()];
  const released = await Promise.all(
    Array.from({ length: 20 }, () => orders.releaseReservation({ reservationId, orderId }, { timeoutMs: 20_000 })),
  );
  for (const { state } of released) t.equal(state, ReservationState.RESERVATION_STATE_RELEASED);
  const late = reserve([{ sku: await freshSku(1n), quantity: 1n }], reservationId);
  await t.rejects(late, refusal({ reason: 'RESERVATION_RELEASED' }));
});

t.test('permissions are enforced', async (t) => {
  const ada = await token('ada');
  const customer = inventoryClient({ addresses, tls: await workloadCertificate('developer'), token: () => ada });
  const sku = await freshSku(1n);
  t.match(await customer.batchGetStock({ skus: [sku, 'NOPE'] }), { levels: [{ sku }], unknownSkus: ['NOPE'] });
  await t.rejects(
    customer.receiveStock({ locationId: 'main', lines: [{ sku, quantity: 1n }] }),
    refusal({
      code: 'PERMISSION_DENIED',
    }),
  );
  await t.rejects(
    staff.reserveStock({ reservationId: randomUUID(), orderId: randomUUID(), lines: [{ sku, quantity: 1n }] }),
    refusal({
      code: 'PERMISSION_DENIED',
    }),
  );
  customer.close();
});
