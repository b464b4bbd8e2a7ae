import { createHash } from 'node:crypto';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { ReserveStockRequest } from '@armature/proto/inventory/v1/inventory.ts';
import t from 'tap';
import { type CallContext, openCall, silentLog } from '../context/call-context.ts';
import { childTrace } from '../context/trace.ts';
import { idempotencyKeyOf } from '../idempotency/key.ts';
import { type HashKeys, noHashKeys, requestHasher } from '../idempotency/request-hash.ts';
import { decode } from './decode.ts';

const method = InventoryServiceContract.methods.reserveStock;
const bytesOf = (reservationId: string, requestId = '') =>
  Buffer.from(ReserveStockRequest.encode(ReserveStockRequest.fromPartial({ requestId, reservationId })).finish());

/** The call of these bytes, after decoding. */
async function decoded(bytes: Buffer, keys: HashKeys = noHashKeys) {
  const call: CallContext = openCall({
    ...{ kind: 'server', name: method.path, method, message: bytes, log: silentLog },
    deadline: Date.now() + 1_000,
    trace: childTrace(undefined),
    caller: { workload: 'workload:edge', user: { kind: 'client', subject: 'reports', token: '', scope: 'all' } },
  } as const);
  await decode(method, requestHasher(keys))(async () => null)(call);
  return call;
}

const keyOf = async (bytes: Buffer, keys?: HashKeys) => idempotencyKeyOf(await decoded(bytes, keys))!;
const keyed = (current: string, ...previous: string[]): HashKeys => ({ current, previous });

t.test('a keyed request gets its identity', async (t) => {
  const bytes = bytesOf('r1');
  const key = await keyOf(bytes);
  t.match(key, { principal: 'client:reports', method: method.path, hash: { version: 2, keyId: '' } });
  t.strictSame(key.hash.digest, createHash('sha256').update(bytes).digest());
});

t.test('with a key, nothing tells without it what a hash is of', async (t) => {
  const hashes = await Promise.all([
    keyOf(bytesOf('r1'), keyed('one secret')),
    keyOf(bytesOf('r1'), keyed('one secret')),
    keyOf(bytesOf('r1'), keyed('another secret')),
    keyOf(bytesOf('r1')),
    keyOf(bytesOf('r2'), keyed('one secret')),
  ]);
  const [first, second, ...others] = hashes.map(({ hash }) => hash.digest.toString('hex'));
  t.equal(first, second, 'the same request, the same hash');
  t.equal(new Set([first, ...others]).size, 4);
  t.equal(hashes[0]!.hash.digest.length, 32, 'as long as the bare hash, as the table has it');
  t.not(hashes[0]!.hash.keyId, hashes[2]!.hash.keyId);
});

// request_id is field 1, reservation_id field 2, lines field 4 with sku 1 and quantity 2 inside.
const id = '01890000-0000-7000-8000-00000000abcd';
const requestId = Buffer.concat([Buffer.from([0x0a, 36]), Buffer.from(id)]);
const reservationId = Buffer.concat([Buffer.from([0x12, 36]), Buffer.from(id)]);
const canonical = Buffer.concat([requestId, reservationId]);

for (const [encoding, bytes] of [
  ['the order of fields', Buffer.concat([reservationId, requestId])],
  ['a field that this service does not know', Buffer.concat([canonical, Buffer.from([0xf8, 0x3f, 0x01])])],
  ['a default that is written out', Buffer.concat([canonical, Buffer.from([0x1a, 0x00])])],
  ['a longer varint', Buffer.concat([Buffer.from([0x8a, 0x00, 0xa4, 0x00]), Buffer.from(id), reservationId])],
  ['a field that is sent twice', Buffer.concat([requestId, canonical])],
  [
    'the case of the request id',
    Buffer.concat([Buffer.from([0x0a, 36]), Buffer.from(id.toUpperCase()), reservationId]),
  ],
] as const) {
  t.test(`${encoding} does not change the identity of a request`, async (t) => {
    const [plain, other] = [await keyOf(canonical), await keyOf(bytes)];
    t.equal(other.key, plain.key);
    t.equal(other.hash.compare(plain.hash), 'same');
    t.strictSame(other.hash.digest, plain.hash.digest);
  });
}

t.test('a request id is handed on in lower case', async (t) => {
  const call = await decoded(bytesOf('r1', id.toUpperCase()));
  t.match(idempotencyKeyOf(call), { key: id, receivedKey: id.toUpperCase() });
  t.notOk('receivedKey' in (await keyOf(canonical)), 'nothing is added to one that came so');
  t.equal(call.message.requestId, id);
});

t.test('a hash is compared under the key that made it', async (t) => {
  const before = (await keyOf(bytesOf('r1'), keyed('one'))).hash;
  const rotated = (await keyOf(bytesOf('r1'), keyed('two', 'zero', 'one'))).hash;
  t.equal(rotated.compare(before), 'same');
  t.equal((await keyOf(bytesOf('r2'), keyed('two', 'one'))).hash.compare(before), 'different');
  t.equal((await keyOf(bytesOf('r1'), keyed('two'))).hash.compare(before), 'unknown', 'the key is gone');
  const bare = (await keyOf(bytesOf('r1'))).hash;
  t.equal(rotated.compare(bare), 'same', 'from before there was a key');
  t.equal(rotated.compare({ ...before, version: 3 }), 'unknown', 'from a newer release');
});

t.test('a hash of version 1 is compared over the bytes as they came and over their canonical encoding', async (t) => {
  const bytes = Buffer.concat([reservationId, requestId]);
  const stored = { version: 1, keyId: '', digest: createHash('sha256').update(bytes).digest() };
  t.equal((await keyOf(bytes, keyed('two', 'one'))).hash.compare(stored), 'same');
  t.equal((await keyOf(bytesOf('r2'), keyed('two', 'one'))).hash.compare(stored), 'different');
  const first = { ...stored, digest: createHash('sha256').update(canonical).digest() };
  t.equal((await keyOf(bytes, keyed('two', 'one'))).hash.compare(first), 'same', 'a repeat in another encoding');
  t.equal((await keyOf(bytesOf('r2'), keyed('two', 'one'))).hash.compare(first), 'different');
});
