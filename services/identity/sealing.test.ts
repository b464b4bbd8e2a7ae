import { createCipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { secretVersion } from '@armature/runtime/credentials';
import t from 'tap';
import { sealedBy, sealing, unversioned } from './sealing.ts';

const [first, second, third] = ['1', '2', '3'].map((digit) => digit.repeat(32)) as [string, string, string];

/** As the releases before versions sealed. */
function sealedBefore(secret: string, plain: string, context: string): Buffer {
  const key = Buffer.from(hkdfSync('sha256', secret, 'armature.identity', 'seal', 32));
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(context));
  return Buffer.concat([nonce, cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()]);
}

t.test('every known version opens and verifies, the current one seals and signs', async (t) => {
  const [before, during, after] = [sealing(first, [second]), sealing(second, [first]), sealing(second, [third])];
  const [old, fresh] = [before.seal('plain', 'row'), during.seal('plain', 'row')];
  t.equal(sealedBy(old).toString('hex'), secretVersion(first));
  t.equal(sealedBy(fresh).toString('hex'), secretVersion(second));
  for (const each of [before, during]) {
    for (const box of [old, fresh]) t.equal(each.open(box, 'row'), 'plain');
    for (const proof of [before.sign('text'), during.sign('text')]) t.equal(each.verifies('text', proof), true);
  }
  t.equal(after.open(fresh, 'row'), 'plain');
  t.throws(() => after.open(old, 'row'), new RegExp(`version ${secretVersion(first)} .*retired`));
  t.equal(after.verifies('text', before.sign('text')), false);
  t.strictSame(during.cookieKeys, [...before.cookieKeys].reverse(), 'the first key of cookies signs');
  t.strictSame(during.otherVersions, [unversioned, before.version]);
});

t.test('what was sealed before versions existed opens with every known version', async (t) => {
  const box = sealedBefore(first, 'plain', 'row');
  t.strictSame(sealedBy(box), unversioned);
  for (const each of [sealing(first), sealing(second, [third, first])]) t.equal(each.open(box, 'row'), 'plain');
  t.throws(() => sealing(second).open(box, 'row'), /its secret is not one of/);
});

t.test('a box that was changed, or is of another context, opens with none', async (t) => {
  const each = sealing(first, [second]);
  const box = each.seal('plain', 'row');
  for (let at = 0; at < box.length; at += 1) {
    const changed = Buffer.from(box);
    changed[at]! ^= 1;
    t.throws(() => each.open(changed, 'row'), `byte ${at}`);
  }
  for (const length of [0, 3, 12, 39, box.length - 1]) t.throws(() => each.open(box.subarray(0, length), 'row'));
  t.throws(() => each.open(box, 'another row'));
  t.equal(each.verifies('text', ''), false);
});
