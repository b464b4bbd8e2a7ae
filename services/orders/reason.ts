import { OrderReason } from '@armature/proto/orders/v1/orders.ts';

type NameOf<Key> = Key extends `ORDER_REASON_${infer Name}` ? Exclude<Name, 'UNSPECIFIED'> : never;

/** Why an order is rejected or cancelled. The names are those of OrderReason in the contract. */
export type Reason = NameOf<keyof typeof OrderReason>;

const isReason = (name: string): name is Reason =>
  name !== 'UNSPECIFIED' && Object.hasOwn(OrderReason, `ORDER_REASON_${name}`);

/** Every reason of the contract. */
export const reasons: readonly Reason[] = Object.keys(OrderReason).flatMap((key) => {
  const name = key.replace('ORDER_REASON_', '');
  return isReason(name) ? [name] : [];
});

/** Reasons whose detail customers may read: SKUs, or the acquirer's decline code. */
const explained: ReadonlySet<Reason> = new Set(['STOCK_INSUFFICIENT', 'SKU_UNKNOWN', 'PAYMENT_DECLINED']);

/**
 * The reason and detail that an order shows. Reasons that the contract does not name, such as other services' error
 * reasons, become CHECKOUT_FAILED; the saga log keeps them. Notes of operators and messages of other services are left
 * out.
 */
export function customerReason(reason: string, detail: string): { reason: Reason; reasonDetail: string } {
  const named = isReason(reason) ? reason : 'CHECKOUT_FAILED';
  return { reason: named, reasonDetail: explained.has(named) ? detail : '' };
}

const detailMax = 480;

/** As many whole names as fit into a reason's detail. */
export function nameList(names: readonly string[]): string {
  let text = '';
  for (const name of names) {
    const longer = text ? `${text},${name}` : name;
    if (longer.length > detailMax) return `${text} and more`;
    text = longer;
  }
  return text;
}
