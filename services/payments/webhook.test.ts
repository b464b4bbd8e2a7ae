import { createHmac } from 'node:crypto';
import t from 'tap';
import { isOperationId, readEvent, timestampWindowS, verifySignature } from './webhook.ts';

const nowS = 1_790_000_000;
const body = Buffer.from('{"event_id":"evt_1","idempotency_key":"k"}');
const signed = (secret: string, timestampS: number | string = nowS, over: Buffer = body) =>
  createHmac('sha256', secret).update(`${timestampS}.`).update(over).digest('hex');
const by = (secret: string, timestampS: number | string = nowS) => `t=${timestampS},v1=${signed(secret, timestampS)}`;

t.test('signatures', async (t) => {
  const rows: [string, unknown, string][] = [
    ['the current secret', by('new'), 'genuine'],
    ['the secret that is being replaced', by('old'), 'genuine'],
    ['one of two', `t=${nowS},v1=${signed('other')},v1=${signed('new')}`, 'genuine'],
    ['nothing', undefined, 'unsigned'],
    ['two headers', [by('new'), by('new')], 'unsigned'],
    ['three signatures', `${by('new')},v1=${signed('new')},v1=${signed('new')}`, 'unsigned'],
    ['upper case', by('new').toUpperCase(), 'unsigned'],
    ['a short digest', `t=${nowS},v1=${signed('new').slice(2)}`, 'unsigned'],
    ['no timestamp', `v1=${signed('new')}`, 'unsigned'],
    ['another secret', by('other'), 'forged'],
    ['another body', `t=${nowS},v1=${signed('new', nowS, Buffer.from('{}'))}`, 'forged'],
    ['another time than was signed', `t=${nowS + 1},v1=${signed('new')}`, 'forged'],
    ['the same time, written otherwise', `t=0${nowS},v1=${signed('new')}`, 'forged'],
    ['just old enough', by('new', nowS - timestampWindowS), 'genuine'],
    ['too old', by('new', nowS - timestampWindowS - 1), 'untimely'],
    ['just early enough', by('new', nowS + timestampWindowS), 'genuine'],
    ['too early', by('new', nowS + timestampWindowS + 1), 'untimely'],
    ['too old and forged', by('other', nowS - 10_000), 'forged'],
  ];
  for (const [name, header, verdict] of rows) {
    t.equal(verifySignature(header, body, ['new', 'old'], nowS * 1_000), verdict, name);
  }
});

t.test('events', async (t) => {
  t.strictSame(readEvent(body), { eventId: 'evt_1', key: 'k', endedChargeId: '' });
  const about = (type: string, charge_id: unknown) =>
    readEvent(Buffer.from(JSON.stringify({ event_id: 'e', idempotency_key: 'k', type, operation: { charge_id } })));
  t.match(about('expiration.expired', 'ch_1'), { endedChargeId: 'ch_1' });
  t.match(about('void.voided', 'ch_1'), { endedChargeId: 'ch_1' });
  t.match(about('capture.captured', 'ch_1'), { endedChargeId: '' });
  t.match(about('void.voided', '../ch_1'), { endedChargeId: '' });
  t.match(about('void.voided', null), { endedChargeId: '' });
  for (const wrong of [
    '',
    'null',
    '[]',
    '{"event_id":"evt_1"}',
    '{"event_id":"evt 1","idempotency_key":"k"}',
    '{"event_id":"e","idempotency_key":null}',
    `{"event_id":"${'e'.repeat(101)}","idempotency_key":"k"}`,
    `{"event_id":"e","idempotency_key":"${'k'.repeat(201)}"}`,
  ]) {
    t.equal(readEvent(Buffer.from(wrong)), null, wrong.slice(0, 60));
  }
  t.equal(readEvent(Buffer.from([0x7b, 0xff, 0x7d])), null, 'not UTF-8');
  t.ok(isOperationId('01a20b4b-1ecc-7354-adff-433b8a1a9e56'));
  t.notOk(isOperationId('order-7/authorize'));
});
