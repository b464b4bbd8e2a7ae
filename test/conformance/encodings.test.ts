import { randomUUID } from 'node:crypto';
import { inventoryClient } from '@armature/clients';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { ReserveStockRequest } from '@armature/proto/inventory/v1/inventory.ts';
import t from 'tap';
import { startService, token, workloadCertificate } from '../support/service.ts';
import { openWire } from './wire.ts';

t.setTimeout(180_000);
const service = await startService(t, 'inventory', { env: { ARMATURE_REQUEST_HASH_KEY: 'a secret of this test' } });
const bo = await token('bo');
const staff = inventoryClient({
  addresses: [service.grpc],
  tls: await workloadCertificate('developer'),
  token: () => bo,
});
const { cert, key, ca } = await workloadCertificate('orders');
const wire = await openWire(service.grpc, { cert, key, ca });
t.teardown(() => {
  wire.close();
  staff.close();
});

t.test('another encoding of a request under its request id gets the stored response', async (t) => {
  const { path } = InventoryServiceContract.methods.reserveStock;
  await staff.receiveStock({ locationId: 'main', lines: [{ sku: 'ENCODED', quantity: 5n }] });
  const requestId = randomUUID();
  const rest = { reservationId: randomUUID(), orderId: randomUUID(), lines: [{ sku: 'ENCODED', quantity: 2n }] };
  const encode = (message: object) =>
    Buffer.from(ReserveStockRequest.encode(ReserveStockRequest.fromPartial(message)).finish());
  const first = await wire.call(path, { message: encode({ requestId, ...rest }) });
  t.equal(first.code, 'OK');
  const unknownField = Buffer.from([0xf8, 0x3f, 0x01]);
  const encodings = {
    'fields in another order': Buffer.concat([encode(rest), encode({ requestId })]),
    'a field that only a newer caller knows': Buffer.concat([encode({ requestId, ...rest }), unknownField]),
    'the request id in upper case': encode({ requestId: requestId.toUpperCase(), ...rest }),
  };
  for (const [name, message] of Object.entries(encodings)) {
    const repeat = await wire.call(path, { message });
    t.equal(repeat.code, 'OK', `${name}: ${repeat.message}`);
    t.strictSame(repeat.replies, first.replies, 'byte for byte');
  }
  const other = await wire.call(path, { message: encode({ requestId, ...rest, orderId: randomUUID() }) });
  t.equal(other.error?.reason, 'REQUEST_ID_REUSED');
  const { levels } = await staff.batchGetStock({ skus: ['ENCODED'] });
  t.strictSame(
    levels.map(({ reserved }) => reserved),
    [2n],
    'reserved once',
  );
});
