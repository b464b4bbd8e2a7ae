/** What the acquirer wrote down of one operation, as far as the demo shows it. */
export interface AcquirerOperation {
  position: number;
  kind: string;
  status: string;
  order_reference: string | null;
  amount_minor: number | null;
  currency_code: string | null;
  charge_id: string | null;
}

interface Page {
  operations: AcquirerOperation[];
  next_after: number;
  has_more: boolean;
}

const pageMax = 1000;

/** The acquirer's own log, read over its HTTP port as an auditor would. */
export interface AcquirerLog {
  /** Everything about one order since the log was opened, in order. */
  of(orderId: string): Promise<AcquirerOperation[]>;
}

/** Opens the log at its present end: what was before is not the demo's, and may be long. */
export async function openAcquirerLog(address: string, signal: AbortSignal): Promise<AcquirerLog> {
  const page = async (after: number, limit: number): Promise<Page> => {
    const response = await fetch(`http://${address}/v1/operations?after=${after}&limit=${limit}`, { signal });
    if (!response.ok) throw new Error(`the acquirer responded with status ${response.status}`);
    return (await response.json()) as Page;
  };
  const start = await lastPosition(async (position) => (await page(position - 1, 1)).operations.length > 0);
  return {
    async of(orderId) {
      const found: AcquirerOperation[] = [];
      for (let after = start; ; ) {
        const { operations, next_after, has_more } = await page(after, pageMax);
        found.push(...operations.filter((operation) => operation.order_reference === orderId));
        if (!has_more) return found;
        after = next_after;
      }
    },
  };
}

/** Positions count from 1 without gaps, so the last one is found by halving. */
async function lastPosition(exists: (position: number) => Promise<boolean>): Promise<number> {
  let beyond = 1;
  while (await exists(beyond)) beyond *= 2;
  let last = Math.floor(beyond / 2);
  while (beyond - last > 1) {
    const middle = Math.floor((last + beyond) / 2);
    if (await exists(middle)) last = middle;
    else beyond = middle;
  }
  return last;
}
