/** Crash points of each service. */
const own = {
  orders: [
    'place-order.before-commit',
    'place-order.committed',
    'saga.before-call',
    'saga.sent',
    'saga.responded',
    'saga.recorded',
  ],
  inventory: [
    'reserve-stock',
    'commit-reservation',
    'release-reservation',
    'periodic-job-expired-reservations',
  ].flatMap((work) => [`${work}.before-commit`, `${work}.committed`]),
  payments: [
    'payments.before-acquirer',
    'payments.after-acquirer',
    'payments.before-ledger-commit',
    'payments.after-ledger-commit',
    'payments.webhook-received',
    'payments.webhook-before-commit',
  ],
  notifications: ['consumer.before-effect', 'consumer.committed', 'job.before-send', 'job.sent'],
} as const;

/** Crash points of the outbox relay, in every service that emits events. */
const relay = ['relay.before-publish', 'relay.published', 'relay.confirmed', 'relay.marked'];

export const pointsOf: Readonly<Record<string, readonly string[]>> = {
  orders: [...own.orders, ...relay],
  inventory: [...own.inventory, ...relay],
  payments: [...own.payments, ...relay],
  notifications: own.notifications,
};

/** Crash points that no order passes; the unit tests beside the code kill there. */
export const pointsElsewhere = [
  'redrive.before-commit',
  'redrive.committed',
  'migration.statement',
  'resume-sagas.resumed',
];

export const allPoints: readonly string[] = [...new Set(Object.values(pointsOf).flat())];
