import { Money } from '@armature/proto/type/v1/money.ts';
import t from 'tap';
import { refuseStrayTags } from './strict-decoding.ts';

t.test('decoders refuse bytes at which those of ts-proto stop', async (t) => {
  const good = Money.encode({ currencyCode: 'EUR', amountMinor: 5n }).finish();
  const followedBy = (...bytes: number[]) => Money.decode(Buffer.concat([good, Buffer.from(bytes)]));
  for (const [name, bytes] of Object.entries({
    'field 0 as a number': [0x00, 0x01],
    'field 0 as bytes': [0x02, 0x00],
    'the end of group 1': [0x0c],
    'a group that does not end': [0x7b, 0x08, 0x01],
  })) {
    t.throws(() => followedBy(...bytes), name);
  }
  t.strictSame(followedBy(0x7b, 0x08, 0x01, 0x7c), Money.decode(good), 'an unknown group is skipped');
});

t.test('a loop in another form is noticed', async (t) => {
  const decode = 'decode(input: BinaryReader | Uint8Array, length?: number): Money {';
  const loop = 'if ((tag & 7) === 4 || tag === 0) {\n          break;\n        }';
  t.match(refuseStrayTags(`${decode}\n${loop}`), /throw new Error/);
  t.throws(() => refuseStrayTags(`${decode}\nif (tag === 0) break;`), { message: /0 of 1 decoders/ });
  t.throws(() => refuseStrayTags(loop), { message: /1 of 0 decoders/ });
});
