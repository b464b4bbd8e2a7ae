// Another party with an API key of the acquirer, such as its back office, that voids holds of payments.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

interface Operation {
  kind: string;
  status: string;
  charge_id: string | null;
  order_reference: string | null;
}

export interface Outsider {
  /** Voids the hold of an order. Returns false if there was none to void, or if `over` says that none will come. */
  voidHold(orderId: string, over: () => Promise<boolean>): Promise<boolean>;
}

const pauseMs = 20;
/** The acquirer may be killed at any moment. For a repeated key it returns the response that it has stored. */
const giveUpAfterMs = 120_000;

export function openOutsider(acquirerUrl: string): Outsider {
  const charges = new Map<string, string>();
  let read = 0;
  /** Reads the new entries of the acquirer's log. */
  const follow = async (): Promise<void> => {
    const response = await fetch(`${acquirerUrl}/v1/operations?after=${read}&limit=1000`);
    const page = (await response.json()) as { operations: Operation[]; next_after: number };
    for (const { kind, status, charge_id, order_reference } of page.operations) {
      const holdsAmount = `${kind} ${status}` === 'authorization authorized' || kind === 'settlement';
      if (holdsAmount && charge_id && order_reference) charges.set(order_reference, charge_id);
    }
    read = Math.max(read, page.next_after);
  };
  const post = async (chargeId: string, key: string): Promise<number> => {
    const headers = { 'content-type': 'application/json', 'idempotency-key': key };
    return (await fetch(`${acquirerUrl}/v1/charges/${chargeId}/void`, { method: 'POST', headers, body: '{}' })).status;
  };
  return {
    async voidHold(orderId, over) {
      const key = randomUUID();
      for (const end = performance.now() + giveUpAfterMs; performance.now() < end; await sleep(pauseMs)) {
        try {
          await follow();
          const chargeId = charges.get(orderId);
          if (!chargeId && (await over())) return false;
          const status = chargeId ? await post(chargeId, key) : 0;
          if (status === 201 || status === 200) return true;
          if (status === 409) return false;
        } catch (error) {
          // fetch throws a TypeError when the connection breaks; any other error is a fault of the run.
          if (!(error instanceof TypeError) && !(error instanceof SyntaxError)) throw error;
        }
      }
      throw new Error(
        `unknown outcome of voiding the hold of order ${orderId}: the acquirer did not respond in ${giveUpAfterMs} ms`,
      );
    },
  };
}
