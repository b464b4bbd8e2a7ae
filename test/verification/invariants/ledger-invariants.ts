/**
 * The invariants of the schema of payments as queries. Each returns the rows that violate it. Names follow the list of invariants
 * in docs/reliability.md. `chainBreak` in services/payments/ledger.ts checks the hash chain (I5); equality with the acquirer's log (I9)
 * needs that log.
 */
export const ledgerInvariants: Readonly<Record<string, string>> = {
  'I1 every entry balances per currency, holds and settled apart': `
    select e.position, p.currency_code, p.pending, sum(p.amount_minor) as off
    from ledger_entry e left join ledger_posting p on p.position = e.position
    group by e.position, p.currency_code, p.pending having off <> 0 or off is null`,
  'I2 the whole book balances per currency': `
    select currency_code, sum(posted_minor) as posted, sum(pending_minor) as pending
    from account_balance group by currency_code having posted <> 0 or pending <> 0`,
  'I3 a cached balance equals the sum of its postings': `
    select account, currency_code, sum(posted) as posted, sum(pending) as pending from (
      select account, currency_code, posted_minor as posted, pending_minor as pending from account_balance
      union all
      select account, currency_code, if(pending, 0, -amount_minor), if(pending, -amount_minor, 0) from ledger_posting
    ) both_sides
    group by account, currency_code having posted <> 0 or pending <> 0`,
  'I4 no account is on its wrong side': `
    select account, currency_code, sum(posted_minor) as posted, sum(pending_minor) as pending
    from account_balance group by account, currency_code
    having (account in ('acquirer_holds', 'acquirer_receivable', 'refunds') and (posted < 0 or pending < 0))
      or (account in ('customer_authorizations', 'sales', 'external_refunds') and (posted > 0 or pending > 0))`,
  'I5 postings belong to entries, and the entries of a payment are numbered without gaps': `
    select e.payment_id from ledger_entry e group by e.payment_id having max(e.sequence) <> count(*)
    union all
    select p.position from ledger_posting p left join ledger_entry e on e.position = p.position
    where e.position is null`,
  'I6 a hold is made, captured, voided or expired at most once': `
    select payment_id, sum(kind = 'authorize') as made, sum(kind = 'capture') as captured, sum(kind in ('void', 'expire', 'release')) as voided
    from ledger_entry group by payment_id
    having made > 1 or captured + voided > made`,
  'I7 refunds stay within the capture, and a payment agrees with its postings': `
    select p.payment_id from payment p
      left join ledger_entry e on e.payment_id = p.payment_id
      left join ledger_posting l on l.position = e.position
    group by p.payment_id, p.captured_minor, p.refunded_minor, p.refunding_minor
    having p.refunded_minor + p.refunding_minor > p.captured_minor
      or coalesce(-sum(if(l.account = 'sales', l.amount_minor, 0)), 0) <> p.captured_minor
      or coalesce(sum(if(l.account = 'refunds', l.amount_minor, 0)), 0) <> p.refunded_minor`,
  'a hold stands exactly while its payment is authorized': `
    select p.payment_id from payment p
      left join ledger_entry e on e.payment_id = p.payment_id
      left join ledger_posting l on l.position = e.position and l.account = 'acquirer_holds'
    group by p.payment_id, p.state, p.amount_minor
    having coalesce(sum(l.amount_minor), 0) <> if(p.state = 'AUTHORIZED', p.amount_minor, 0)`,
  'what operations have under way is what the payment has reserved': `
    select p.payment_id from payment p left join payment_operation o
      on o.payment_id = p.payment_id and o.state = 'PENDING'
    group by p.payment_id, p.state, p.refunding_minor, p.exclusive_operation_id
    having p.refunding_minor <> coalesce(sum(if(o.kind = 'refund', o.amount_minor, 0)), 0)
      or (p.state = 'PENDING') <> (coalesce(sum(o.kind = 'authorize'), 0) = 1)
      or (p.exclusive_operation_id is not null) <> (coalesce(sum(o.kind in ('capture', 'void')), 0) = 1)`,
};
