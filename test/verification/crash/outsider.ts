// Another party with a key of the acquirer, such as its back office: voids holds that payments has made.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

interface Operation {
  kind: string;
  status: string;
  charge_id: string | null;
  order_reference: string | null;
}

export interface Outsider {
  /** Voids the hold of an order. False where there was none to void, or until `over` says that none will come. */
  voidHold(orderId: string, over: () => Promise<boolean>): Promise<boolean>;
}

const pauseMs = 20;
/** The acquirer may be killed at any moment; what it has recorded it answers again under the same key. */
const giveUpAfterMs = 120_000;

export function openOutsider(acquirerUrl: string): Outsider {
  const charges = new Map<string, string>();
  let read = 0;
  /** Reads what is new in the acquirer's log. */
  const follow = async (): Promise<void> => {
    const response = await fetch(`${acquirerUrl}/v1/operations?after=${read}&limit=1000`);
    const page = (await response.json()) as { operations: Operation[]; next_after: number };
    for (const { kind, status, charge_id, order_reference } of page.operations) {
      const held = `${kind} ${status}` === 'authorization authorized' || kind === 'settlement';
      if (held && charge_id && order_reference) charges.set(order_reference, charge_id);
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
          // fetch throws a TypeError where the connection broke; anything else is a fault of the run.
          if (!(error instanceof TypeError) && !(error instanceof SyntaxError)) throw error;
        }
      }
      throw new Error(`the acquirer did not say whether the hold of order ${orderId} was voided`);
    },
  };
}
