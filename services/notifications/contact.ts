import type { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import type { CallContext, Client } from '@armature/runtime';
import { SkipJobError } from '@armature/runtime/jobs';
import type { Delivery } from './delivery.ts';

/** Where the e-mail of a delivery goes. Throws SkipJobError when the address was erased. */
export type ContactOf = (delivery: Delivery, call: CallContext, signal: AbortSignal) => Promise<string>;

/**
 * Reads the address from the order, each time an e-mail is sent: orders is the only service that stores it. A delivery
 * of an earlier release has it in its row.
 */
export const contactFrom =
  (orders: Client<typeof OrderServiceContract>): ContactOf =>
  async ({ orderId, recipient }, call, signal) => {
    if (recipient) return recipient;
    const { contactEmail } = await orders.getOrderContact({ orderId }, { parent: call, signal });
    if (!contactEmail) throw new SkipJobError('the e-mail address of the order was erased');
    return contactEmail;
  };

/** An error of sending without the address, which mail servers quote: errors are stored and logged. */
export function withoutAddress(error: unknown, address: string): Error {
  const message = error instanceof Error ? error.message : String(error);
  return new Error(message.replaceAll(address, 'the recipient'));
}
