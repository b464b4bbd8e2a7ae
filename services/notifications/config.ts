import { integer, peer, runtimeVariables, text, url } from '@armature/runtime';

export const config = {
  ...runtimeVariables,
  orders: peer('orders'),
  mailUrl: url('ARMATURE_MAIL_URL', 'where e-mails go: smtp://user:password@host:port or maildir:///folder', [
    'smtp',
    'smtps',
    'maildir',
  ]),
  mailFrom: text('ARMATURE_MAIL_FROM', 'sender of every e-mail', {
    fallback: 'Armature Shop <orders@shop.armature.local>',
  }),
  maxAttempts: integer('ARMATURE_MAIL_ATTEMPTS_MAX', 'attempts before a delivery is given up', {
    min: 1,
    max: 20,
    fallback: 14,
  }),
  initialBackoffMs: integer(
    'ARMATURE_MAIL_RETRY_BASE_MS',
    'wait after the first failed attempt; it doubles up to an hour',
    {
      min: 10,
      max: 60_000,
      fallback: 1_000,
    },
  ),
  deliveryKeptDays: integer('ARMATURE_DELIVERY_KEPT_DAYS', 'how long an e-mail that was sent stays in the list', {
    min: 30,
    max: 3_650,
    fallback: 400,
  }),
} as const;
