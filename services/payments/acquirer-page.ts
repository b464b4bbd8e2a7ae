/** The fields of a record of the acquirer's log that a comparison needs. */
export interface LoggedOperation {
  /** Its position in the log. */
  position: string;
  externalId: string;
  /** The idempotency key; of a settlement or expiration, the key of the authorization. Empty where there is none. */
  key: string;
  chargeId: string;
  kind: string;
  status: string;
  amountMinor: number | null;
  currencyCode: string;
  createTime: Date;
  /** The unparsed record. */
  body: unknown;
}

export interface LoggedPage {
  operations: LoggedOperation[];
  nextAfter: number;
  hasMore: boolean;
}

/** The operations of a lookup, which has one page. Null where the body is invalid. */
export function readOperations(body: unknown): LoggedOperation[] | null {
  if (typeof body !== 'object' || body === null) return null;
  const { operations } = body as Record<string, unknown>;
  if (!Array.isArray(operations)) return null;
  const read = operations.map(readOperation);
  return read.every((one) => one !== null) ? read : null;
}

/** Null where any part of the page is invalid: no conclusion is drawn from a part of a page. */
export function readPage(body: unknown): LoggedPage | null {
  if (typeof body !== 'object' || body === null) return null;
  const { operations, next_after: nextAfter, has_more: hasMore } = body as Record<string, unknown>;
  const read = readOperations({ operations });
  if (!read || !Number.isSafeInteger(nextAfter) || typeof hasMore !== 'boolean') return null;
  return { operations: read, nextAfter: Number(nextAfter), hasMore };
}

function readOperation(value: unknown): LoggedOperation | null {
  if (typeof value !== 'object' || value === null) return null;
  const fields = value as Record<string, unknown>;
  const text = (name: string) => (typeof fields[name] === 'string' ? fields[name] : '');
  const createTime = new Date(text('created_at'));
  if (text('operation_id') === '' || text('kind') === '' || Number.isNaN(createTime.getTime())) return null;
  return {
    position: String(Number.isSafeInteger(fields.position) ? fields.position : 0),
    externalId: text('operation_id'),
    key: text('idempotency_key') || text('authorization_key'),
    chargeId: text('charge_id'),
    kind: text('kind'),
    status: text('status'),
    amountMinor: typeof fields.amount_minor === 'number' ? fields.amount_minor : null,
    currencyCode: text('currency_code'),
    createTime,
    body: value,
  };
}
