/** A line of the acquirer's log, as much of it as a comparison needs. */
export interface LoggedOperation {
  externalId: string;
  /** Empty for a settlement, which no key asked for. */
  key: string;
  kind: string;
  status: string;
  amountMinor: number | null;
  currencyCode: string;
  createTime: Date;
}

export interface LoggedPage {
  operations: LoggedOperation[];
  nextAfter: number;
  hasMore: boolean;
}

/** Null where it is no page: nothing may be concluded from half of one. */
export function readPage(body: unknown): LoggedPage | null {
  if (typeof body !== 'object' || body === null) return null;
  const { operations, next_after: nextAfter, has_more: hasMore } = body as Record<string, unknown>;
  if (!Array.isArray(operations) || !Number.isSafeInteger(nextAfter) || typeof hasMore !== 'boolean') return null;
  const read = operations.map(readOperation);
  if (!read.every((one) => one !== null)) return null;
  return { operations: read, nextAfter: Number(nextAfter), hasMore };
}

function readOperation(value: unknown): LoggedOperation | null {
  if (typeof value !== 'object' || value === null) return null;
  const fields = value as Record<string, unknown>;
  const text = (name: string) => (typeof fields[name] === 'string' ? fields[name] : '');
  const createTime = new Date(text('created_at'));
  if (text('operation_id') === '' || text('kind') === '' || Number.isNaN(createTime.getTime())) return null;
  return {
    externalId: text('operation_id'),
    key: text('idempotency_key'),
    kind: text('kind'),
    status: text('status'),
    amountMinor: typeof fields.amount_minor === 'number' ? fields.amount_minor : null,
    currencyCode: text('currency_code'),
    createTime,
  };
}
