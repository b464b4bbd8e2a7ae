import { PaymentErrorReason } from '@armature/proto/payments/v1/contract.ts';
import { rpcError } from '@armature/runtime';
import t from 'tap';
import { uncharged } from './outcomes.ts';

const refused = (metadata: Record<string, string>) =>
  rpcError('FAILED_PRECONDITION', PaymentErrorReason.PAYMENT_STATE, 'not possible in this state', metadata);

t.test('a refused capture names why the order is not charged', async (t) => {
  for (const [name, metadata, result] of [
    [
      'the acquirer',
      { state: 'AUTHORIZED', acquirer_code: 'capture_declined' },
      ['PAYMENT_DECLINED', 'capture_declined'],
    ],
    ['an operator who gave the charge up', { state: 'AUTHORIZED', acquirer_code: 'given_up' }, ['OPERATOR', '']],
    ['the end of the hold', { state: 'HOLD_EXPIRED', acquirer_code: 'charge_expired' }, ['PAYMENT_HOLD_EXPIRED', '']],
    ['a void', { state: 'VOIDED_EXTERNALLY', acquirer_code: 'charge_voided' }, ['PAYMENT_VOIDED', '']],
  ] as const) {
    const [reason, detail] = result;
    t.strictSame(uncharged(refused(metadata)), { kind: 'done', result: { reason, detail } }, name);
  }
  t.throws(() => uncharged(refused({ state: 'PENDING' })), 'any other refusal is an error of the step');
});
