import { generateKeyPairSync, randomUUID as uuid } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { accessClient, identityClient, inventoryClient, paymentsClient } from '@armature/clients';
import { Scope } from '@armature/proto/access/v1/access.ts';
import { DeliveryState } from '@armature/proto/notifications/v1/notifications.ts';
import { buy, type Shop, wish } from '../../e2e/shop.ts';
import type { Teardown } from '../../support/infra.ts';
import { token, workloadCertificate } from '../../support/service.ts';
import { people } from './principals.ts';

/** All resources that the calls of the matrix refer to, created by calls. Owned resources belong to ada. */
export interface Scene {
  shop: Shop;
  sku: string;
  categoryId: string;
  productId: string;
  /** A product to archive. */
  spareProductId: string;
  orderId: string;
  /** The payment of that order. */
  paymentId: string;
  /** An order to cancel. */
  secondOrderId: string;
  deliveryIds: { staff: string; admin: string };
  reservations: { reserved: string; toCommit: string; toRelease: string };
  payments: { toCapture: string; toVoid: string; captured: string };
  /** Null if the mesh has no such service. */
  identity: IdentityScene | null;
  access: AccessScene | null;
}

export interface IdentityScene {
  /** A customer's account that the callers of every column try to change. */
  userId: string;
  /** Accounts for permanent changes, by change and by caller. */
  spare: Record<'password' | 'deactivate own' | 'deactivate admin' | 'erase own' | 'erase admin', string>;
  serviceAccountId: string;
  publicJwk: string;
}

export interface AccessScene {
  /** A role without members. */
  spareRole: string;
  grantId: string;
}

export const password = 'a long sentence that no other person has';

/** Creates what the requests of the access matrix refer to in a shop. */
export async function setScene(t: Teardown, shop: Shop): Promise<Scene> {
  const sku = await shop.stock(1_000n);
  const spareSku = await shop.stock(1n);
  const { products } = await shop.staff.catalog.listProducts({ pageSize: 50 });
  const productOf = (wanted: string) => products.find((one) => one.variants.some((variant) => variant.sku === wanted))!;
  const { productId, categoryId } = productOf(sku);
  const [order, second] = await Promise.all([buy(shop.customer, wish(sku)), buy(shop.customer, wish(sku))]);
  return {
    shop,
    sku,
    categoryId,
    productId,
    spareProductId: productOf(spareSku).productId,
    orderId: order.orderId,
    paymentId: order.paymentId,
    secondOrderId: second.orderId,
    deliveryIds: await deliveries(shop),
    ...(await asOrders(t, shop, sku)),
    identity: shop.mesh.identity ? await accounts(t, shop) : null,
    access: shop.mesh.access ? await grants(t, shop) : null,
  };
}

/** Ids of two sent e-mails, one for each caller who may resend: resending an e-mail that is not sent yet is refused. */
async function deliveries({ staff }: Shop): Promise<Scene['deliveryIds']> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const { deliveries: sent } = await staff.notifications.listDeliveries({ state: DeliveryState.DELIVERY_STATE_SENT });
    const [first, second] = sent;
    if (first && second) return { staff: first.deliveryId, admin: second.deliveryId };
    if (Date.now() > deadline) throw new Error('the mails of two orders were not sent within 30 s');
    await sleep(50);
  }
}

/** Creates the resources that only orders may create: reservations and payments. */
async function asOrders(t: Teardown, shop: Shop, sku: string): Promise<Pick<Scene, 'reservations' | 'payments'>> {
  const tls = await workloadCertificate('orders');
  const inventory = inventoryClient({ addresses: [shop.service('inventory').grpc], tls });
  const payments = paymentsClient({ addresses: [shop.service('payments').grpc], tls });
  t.teardown(() => {
    inventory.close();
    payments.close();
  });
  const reserve = async () => {
    const reservationId = uuid();
    await inventory.reserveStock({ reservationId, orderId: uuid(), lines: [{ sku, quantity: 1n }] });
    return reservationId;
  };
  const authorize = async () => {
    const paymentId = uuid();
    const amount = { currencyCode: 'EUR', amountMinor: 100n };
    const whose = { orderId: uuid(), customerId: people.own };
    await payments.authorizePayment({ paymentId, ...whose, amount, paymentMethod: 'card_ok' });
    return paymentId;
  };
  const [reserved, toCommit, toRelease] = await Promise.all([reserve(), reserve(), reserve()]);
  const [toCapture, toVoid, captured] = await Promise.all([authorize(), authorize(), authorize()]);
  await payments.capturePayment({ paymentId: captured });
  return { reservations: { reserved, toCommit, toRelease }, payments: { toCapture, toVoid, captured } };
}

async function accounts(t: Teardown, shop: Shop): Promise<IdentityScene> {
  const administrator = identityClient(await asAdministrator(shop, 'identity'));
  t.teardown(() => administrator.close());
  const register = async () => {
    const email = `${uuid()}@example.org`;
    const { userId } = await administrator.registerUser({ email, password, displayName: 'Test person' });
    // An account has a password from its verification on.
    await administrator.verifyEmail({ token: await tokenTo(email, shop), password });
    return userId;
  };
  const [userId, first, second, third, fourth, fifth] = await Promise.all(Array.from({ length: 6 }, register));
  const serviceAccountId = `program-${uuid()}`;
  const publicJwk = JSON.stringify(
    generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }),
  );
  await administrator.createServiceAccount({ accountId: serviceAccountId, displayName: 'A program', publicJwk });
  return {
    userId: userId!,
    spare: {
      password: first!,
      'deactivate own': second!,
      'deactivate admin': third!,
      'erase own': fourth!,
      'erase admin': fifth!,
    },
    serviceAccountId,
    publicJwk,
  };
}

/** The token in the e-mail to an address. */
async function tokenTo(email: string, shop: Shop): Promise<string> {
  const folder = join(shop.service('identity').dir, 'mail', 'new');
  const deadline = Date.now() + 20_000;
  for (;;) {
    const mails = existsSync(folder) ? readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8')) : [];
    const text = mails.find((mail) => mail.includes(email))?.replace(/=\n/g, '');
    const token = /token=3D([\w.-]+)/.exec(text ?? '')?.[1];
    if (token) return token;
    if (Date.now() > deadline) throw new Error(`no e-mail to ${email}`);
    await sleep(30);
  }
}

/** A role and a grant to end, and a former member of staff whose grant was really revoked before. */
async function grants(t: Teardown, shop: Shop): Promise<AccessScene> {
  const administrator = accessClient(await asAdministrator(shop, 'access'));
  const former = await shop.as(people.revoked);
  t.teardown(() => administrator.close());
  const spareRole = 'role:spare';
  await administrator.putRole({ name: spareRole, rules: [{ permission: 'catalog.read', scope: Scope.SCOPE_ANY }] });
  const { grantId } = await administrator.grantRole({ member: 'user:unrelated', role: 'role:staff' });
  const staff = await administrator.grantRole({ member: `user:${people.revoked}`, role: 'role:staff' });
  /** One call at each service that staff may make and customers may not. */
  const mayEverywhere = () =>
    Promise.all(
      [
        former.ledger.getTrialBalance({}),
        former.notifications.listDeliveries({}),
        former.orders.listOrders({ customerId: '' }),
        former.inventory.getReservation({ reservationId: uuid() }),
        former.catalog.archiveProduct({ productId: uuid() }),
      ].map((response) =>
        response.then(
          () => true,
          (error: { code?: string }) => error.code === 'NOT_FOUND',
        ),
      ),
    );
  await until('the grant counts everywhere', async () => (await mayEverywhere()).every((may) => may));
  await administrator.revokeRole({ grantId: staff.grantId });
  await until('its end counts everywhere', async () => !(await mayEverywhere()).some((may) => may));
  return { spareRole, grantId };
}

async function asAdministrator(shop: Shop, service: string) {
  const bearer = await token(people.admin);
  return {
    addresses: [shop.service(service).grpc],
    tls: await workloadCertificate('developer'),
    token: () => bearer,
  };
}

async function until(what: string, met: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!(await met())) {
    if (Date.now() > deadline) throw new Error(`not within 20 s: ${what}`);
    await sleep(100);
  }
}
