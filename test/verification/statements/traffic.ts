import { identityClient, opsClient, signingKeysClient } from '@armature/clients';
import type { MethodContract } from '@armature/proto/contract.ts';
import { SagaState } from '@armature/proto/ops/v1/ops.ts';
import { contracts } from '../../conformance/contracts.ts';
import { openWire } from '../../conformance/wire.ts';
import { buy, type Shop, wish } from '../../e2e/shop.ts';
import type { Teardown } from '../../support/infra.ts';
import { token, workloadCertificate } from '../../support/service.ts';
import { deadLetters } from './backlog.ts';

/** Creates orders in every state that customers cause, a refund and a cancellation. */
export async function doBusiness(shop: Shop): Promise<{ orderId: string; paymentId: string; sku: string }> {
  const { staff, customer } = shop;
  const sku = await shop.stock(20n);
  const other = await shop.stock(20n);
  const order = await buy(customer, wish(sku));
  const lines = [sku, other].map((one) => ({ sku: one, quantity: 2n }));
  const cancelled = await buy(customer, wish(sku, { lines }));
  await customer.orders.cancelOrder({ orderId: cancelled.orderId });
  for (const paymentMethod of [
    'card_declined',
    'card_timeout_before_auth',
    'card_timeout_after_auth',
    'card_webhook',
  ]) {
    await buy(customer, wish(sku, { paymentMethod }));
  }
  const repeated = wish(sku);
  for (const request of [repeated, repeated]) await customer.orders.placeOrder(request);
  const { orderId: pending } = await customer.orders.placeOrder(wish(sku, { paymentMethod: 'card_slow' }));
  await customer.orders.cancelOrder({ orderId: pending });
  await buy(customer, wish(sku, { lines: [{ sku, quantity: 900n }] }));
  await staff.catalog.batchGetVariants({ skus: [sku, other] });
  await staff.inventory.adjustStock({ sku, locationId: 'main', delta: 1n, note: 'found' });
  return { orderId: order.orderId, paymentId: order.paymentId, sku };
}

type Fields = Record<string, unknown>;

/** Filters of each list method that its callers use; every list is requested without a filter too. */
const filters: Record<string, (made: Awaited<ReturnType<typeof doBusiness>>) => Fields[]> = {
  ListProducts: () => [{ includeArchived: true }],
  ListOrders: () => [{ customerId: 'ada' }, { state: 1 }, { state: 3 }, { customerId: 'ada', state: 1 }],
  ListDeliveries: ({ orderId }) => [{ customerId: 'ada' }, { orderId }, { state: 1 }, { state: 2 }, { state: 3 }],
  ListPayments: () => [{ customerId: 'ada' }],
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
  ListSessions: () => ({ userId: 'ada' }),
};

/** Requests every list of every service, first and next page, with a principal that may. */
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

/** Operations of operators and administrators, and of people on their accounts. */
export async function administer(t: Teardown, shop: Shop): Promise<void> {
  const tls = await workloadCertificate('developer');
  const [admin, operator] = await Promise.all([token('admin'), token('olga')]);
  const as = (service: string, bearer: string) => ({
    ...{ addresses: [shop.service(service).grpc], tls, token: () => bearer },
  });
  const orders = opsClient('orders', as('orders', operator));
  const notifications = opsClient('notifications', as('notifications', operator));
  const identity = identityClient(as('identity', admin));
  const keys = signingKeysClient(as('identity', operator));
  for (const client of [orders, notifications, identity, keys]) t.teardown(() => client.close());
  for (const { kid } of (await keys.listSigningKeys({})).signingKeys) await keys.revokeSigningKey({ kid });
  const [saga] = (await orders.listSagas({ state: SagaState.SAGA_STATE_COMPLETED })).sagas;
  const { sagaId } = saga!;
  await orders.getSaga({ sagaId });
  // Refused, because the saga has completed.
  await orders.resumeSaga({ sagaId }).catch(() => {});
  const filter = { name: 'checkout', step: 'capture-payment', reason: 'a', olderThanSeconds: 1n };
  for (const apply of [false, true]) await orders.resumeSagas({ filter, apply });
  await orders.publishBaseline({ aggregate: 'order', consumer: 'notifications' });
  const { toRedrive, toDrop } = deadLetters;
  await notifications.getDeadLetter({ deadLetterId: toRedrive });
  const selection = { filter: { consumer: 'notifications.orders.order', reason: 'none' }, limit: 1 };
  for (const dryRun of [true, false]) await notifications.redriveDeadLetters({ ...selection, dryRun });
  await notifications.redriveDeadLetters({ deadLetterIds: [toRedrive] });
  await notifications.dropDeadLetter({ deadLetterId: toDrop, why: 'a test' });
  const { deliveries } = await shop.staff.notifications.listDeliveries({});
  const { deliveryId } = deliveries[0]!;
  await shop.staff.notifications.getDelivery({ deliveryId });
  await shop.staff.notifications.resendDelivery({ deliveryId });

  const email = 'cleo@example.org';
  const password = 'correct horse battery staple';
  await identity.registerUser({ email, password, displayName: 'Cleo' }).catch(() => {});
  await identity.requestPasswordReset({ email }).catch(() => {});
  const { users } = await identity.listUsers({});
  const userId = users[0]?.userId;
  if (!userId) return;
  await identity.updateUser({ userId, displayName: 'Cleopatra', updateMask: ['display_name'] });
  await identity.exportUserData({ userId });
  await identity.deactivateUser({ userId });
  await identity.reactivateUser({ userId });
  await identity.eraseUser({ userId });
}

/** Makes every gauge collect its value. */
export async function askForMetrics(shop: Shop): Promise<void> {
  for (const { admin } of Object.values(shop.mesh)) {
    if (admin !== '') await (await fetch(`http://${admin}/metrics`)).text();
  }
}
