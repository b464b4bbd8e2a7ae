// Counts the effects of keyed requests in the tables of the services.

/** Rows that only requests of one kind can have made, counted by `handle`; `n` is the number of rows of one effect. */
export interface EffectCount {
  readonly what: string;
  readonly sql: string;
}

export const adjusted: readonly EffectCount[] = [
  {
    what: 'movement',
    sql: `select note as handle, count(*) as n from {inventory}.movement where kind = 'ADJUST' group by note`,
  },
];

export const received: readonly EffectCount[] = [
  {
    what: 'movement',
    sql: `select sku as handle, count(*) as n from {inventory}.movement
      where kind = 'RECEIVE' and sku like 'KEY-%' group by sku`,
  },
];

/** `which` is the SQL condition that selects the lines of this kind. */
export const reserved = (anchor: string, which: string): readonly EffectCount[] => {
  const lines = `{inventory}.reservation r join {inventory}.reservation_line l on l.reservation_id = r.reservation_id`;
  const mine = `r.order_id = '${anchor}' and ${which}`;
  return [
    {
      what: 'reservation',
      sql: `select r.reservation_id as handle, count(*) as n from ${lines} where ${mine} group by r.reservation_id`,
    },
    {
      what: 'event',
      sql: `select r.reservation_id as handle, count(*) as n from ${lines}
        join {inventory}.outbox o on o.aggregate_id = r.reservation_id and o.type = 'armature.inventory.v1.StockReserved'
        where ${mine} group by r.reservation_id`,
    },
  ];
};

/** A declined card leaves a payment, an operation and an event, but no ledger entry. */
export const authorized = (anchor: string, state: string, inLedger: boolean): readonly EffectCount[] => {
  const mine = `p.order_id = '${anchor}' and p.state = '${state}'`;
  const rows = (what: string, table: string, id: string, which: string): EffectCount => ({
    what,
    sql: `select p.payment_id as handle, count(x.${id}) as n from {payments}.payment p
      left join {payments}.${table} x on x.${id} = p.payment_id and ${which} where ${mine} group by p.payment_id`,
  });
  return [
    rows('operation', 'payment_operation', 'payment_id', 'true'),
    rows('event', 'outbox', 'aggregate_id', `x.type like 'armature.payments.v1.Payment%'`),
    ...(inLedger ? [rows('ledger entry', 'ledger_entry', 'payment_id', 'true')] : []),
  ];
};

export const refunded = (which: string): readonly EffectCount[] => {
  const operations = `{payments}.payment_operation o left join {payments}.ledger_entry e
    on e.payment_id = o.payment_id and e.external_id = o.external_id and e.kind = 'refund'`;
  const mine = `o.kind = 'refund' and ${which}`;
  return [
    {
      what: 'operation',
      sql: `select o.operation_id as handle, count(*) as n from {payments}.payment_operation o where ${mine}
        group by o.operation_id`,
    },
    {
      what: 'ledger entry',
      sql: `select o.operation_id as handle, count(e.entry_id) as n from ${operations} where ${mine}
        group by o.operation_id`,
    },
  ];
};

export const placed = (anchor: string): readonly EffectCount[] => [
  {
    what: 'order',
    sql: `select order_id as handle, count(*) as n from {orders}.orders where order_id <> '${anchor}' group by order_id`,
  },
  {
    what: 'event',
    sql: `select aggregate_id as handle, count(*) as n from {orders}.outbox
      where type = 'armature.orders.v1.OrderPlaced' and aggregate_id <> '${anchor}' group by aggregate_id`,
  },
  {
    what: 'saga',
    sql: `select subject_id as handle, count(*) as n from {orders}.saga
      where name = 'checkout' and subject_id <> '${anchor}' group by subject_id`,
  },
];
