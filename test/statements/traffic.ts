import type { MethodContract } from '@armature/proto/contract.ts';
import { contracts } from '../conformance/contracts.ts';
import { openWire } from '../conformance/wire.ts';
import { buy, type Shop, wish } from '../e2e/shop.ts';
import type { Teardown } from '../support/infra.ts';
import { token, workloadCertificate } from '../support/service.ts';

/** Orders in every state that customers bring about, a refund and a cancellation. */
export async function doBusiness(shop: Shop): Promise<{ orderId: string; paymentId: string; sku: string }> {
  const { staff, customer } = shop;
  const sku = await shop.stock(20n);
  const other = await shop.stock(20n);
  const order = await buy(customer, wish(sku));
  const lines = [sku, other].map((one) => ({ sku: one, quantity: 2n }));
  const cancelled = await buy(customer, wish(sku, { lines }));
  await customer.orders.cancelOrder({ orderId: cancelled.orderId });
  await buy(customer, wish(sku, { paymentMethod: 'card_declined' }));
  await buy(customer, wish(sku, { lines: [{ sku, quantity: 900n }] }));
  await staff.catalog.batchGetVariants({ skus: [sku, other] });
  await staff.inventory.adjustStock({ sku, locationId: 'main', delta: 1n, note: 'found' });
  return { orderId: order.orderId, paymentId: order.paymentId, sku };
}

type Fields = Record<string, unknown>;

/** What each list is asked for besides nothing: every filter that its callers use. */
const filters: Record<string, (made: Awaited<ReturnType<typeof doBusiness>>) => Fields[]> = {
  ListProducts: () => [{ includeArchived: true }],
  ListOrders: () => [{ customerId: 'ada' }, { state: 1 }, { state: 3 }, { customerId: 'ada', state: 1 }],
  ListDeliveries: ({ orderId }) => [{ orderId }, { state: 1 }, { state: 2 }, { state: 3 }],
  ListEntries: ({ paymentId }) => [{ paymentId }],
  ListPaymentOperations: ({ paymentId }) => [{ paymentId }, { pending: true }],
  ListGrants: () => [{ member: 'user:bo' }, { role: 'role:staff' }, { liveOnly: true }],
  ListDecisions: () => [
    { service: 'orders' },
    { subject: 'user:ada' },
    { permission: 'orders.read' },
    { deniedOnly: true },
  ],
  ListUsers: () => [{ state: 1 }, { state: 2 }, { email: 'ada@example.org' }],
  ListDeadLetters: () => [{ state: 2 }, { filter: { type: 'armature.orders.v1.OrderConfirmed' } }],
  ListSagas: () => [
    { state: 1 },
    { state: 2 },
    { state: 3 },
    { state: 4 },
    { name: 'checkout' },
    { olderThanSeconds: 60n },
  ],
};

/** Fields without which a method refuses. */
const needed: Record<string, (made: Awaited<ReturnType<typeof doBusiness>>) => Fields> = {
  ListOrderEvents: ({ orderId }) => ({ orderId }),
};

/** Asks every service for every list, first and next page, as those who may. */
export async function askForLists(
  t: Teardown,
  shop: Shop,
  made: Awaited<ReturnType<typeof doBusiness>>,
): Promise<string[]> {
  const problems: string[] = [];
  const [admin, operator] = await Promise.all([token('admin'), token('olga')]);
  for (const { service, contract } of contracts) {
    const wire = await openWire(shop.service(service).grpc, await workloadCertificate('developer'));
    t.teardown(() => wire.close());
    for (const method of Object.values(contract.methods)) {
      if (method.idempotency || method.kind !== 'unary' || !('pageSize' in method.request.fromPartial({}))) continue;
      const always = needed[method.name]?.(made) ?? {};
      for (const filter of [{}, ...(filters[method.name]?.(made) ?? [])]) {
        const forOperators = /^(ops|payments[.]operations)[.]/.test(method.permission);
        const authorization = `Bearer ${forOperators ? operator : admin}`;
        const ask = async (fields: Fields) =>
          wire.call(method.path, { message: encode(method, fields), headers: { authorization } });
        const first = await ask({ pageSize: 1, ...always, ...filter });
        if (first.code !== 'OK') {
          problems.push(`${method.path} ${JSON.stringify(filter)}: ${first.code} ${first.message}`);
          continue;
        }
        const { nextPageToken } = method.response.decode(first.replies[0] ?? new Uint8Array()) as Fields;
        if (nextPageToken) await ask({ pageSize: 50, ...always, ...filter, pageToken: nextPageToken });
      }
    }
  }
  return problems;
}

const encode = (method: MethodContract, fields: Fields) =>
  Buffer.from(method.request.encode(method.request.fromPartial(fields)).finish());

/** Has every gauge collected. */
export async function askForMetrics(shop: Shop): Promise<void> {
  for (const { admin } of Object.values(shop.mesh)) {
    if (admin !== '') await (await fetch(`http://${admin}/metrics`)).text();
  }
}
