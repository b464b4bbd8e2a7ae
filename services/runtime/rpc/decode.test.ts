import { createHash } from 'node:crypto';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { ReserveStockRequest } from '@armature/proto/inventory/v1/inventory.ts';
import t from 'tap';
import { childTrace } from '../telemetry/trace.ts';
import { openCall, silentLog } from './call.ts';
import { decode } from './decode.ts';

const method = InventoryServiceContract.methods.reserveStock;
const bytesOf = (reservationId: string) =>
  Buffer.from(ReserveStockRequest.encode(ReserveStockRequest.fromPartial({ reservationId })).finish());

/** The identity that a request of these bytes gets. */
async function keyOf(bytes: Buffer, hashKey?: string) {
  const call = openCall<any>({
    ...{ kind: 'server', name: method.path, method, message: bytes, log: silentLog },
    deadline: Date.now() + 1_000,
    trace: childTrace(undefined),
    caller: { workload: 'workload:edge', user: { kind: 'client', subject: 'reports', token: '' } },
  } as const);
  await decode(method, hashKey)(async () => null)(call);
  return call.idempotency!;
}

t.test('a keyed request gets its identity', async (t) => {
  const bytes = bytesOf('r1');
  const key = await keyOf(bytes);
  t.match(key, { principal: 'client:reports', method: method.path });
  t.strictSame(key.hash, createHash('sha256').update(bytes).digest());
});

t.test('with a key, nobody without it can tell what a hash is of', async (t) => {
  const hashes = await Promise.all([
    keyOf(bytesOf('r1'), 'one secret'),
    keyOf(bytesOf('r1'), 'one secret'),
    keyOf(bytesOf('r1'), 'another secret'),
    keyOf(bytesOf('r1')),
    keyOf(bytesOf('r2'), 'one secret'),
  ]);
  const [first, second, ...others] = hashes.map(({ hash }) => hash.toString('hex'));
  t.equal(first, second, 'the same request, the same hash');
  t.equal(new Set([first, ...others]).size, 4);
  t.equal(hashes[0]!.hash.length, 32, 'as long as the bare hash, as the table has it');
});
