import { randomUUID as uuid } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { inventoryClient, paymentsClient } from '@armature/clients';
import type { MethodContract } from '@armature/proto/contract.ts';
import {
  type Issued,
  issueCertificate,
  readCa,
  trustDomain,
  workloadRequest,
} from '../../scripts/devmesh/certificates.ts';
import { buy, type Shop, stateName, wish } from '../e2e/shop.ts';
import { type Teardown, testServers } from '../support/infra.ts';
import { token, workloadCertificate } from '../support/service.ts';
import type { Stage } from './bad-rows.ts';
import { contracts } from './contracts.ts';
import { type Snapshot, snapshots } from './snapshot.ts';
import { openWire, type Wire, type WireCredentials } from './wire.ts';

const serviceOf = (method: MethodContract): string => {
  const found = contracts.find(({ contract }) => contract.name === method.service);
  if (!found) throw new Error(`no service serves ${method.path}`);
  return found.service;
};

/** Creates what bad requests refer to in a shop, and waits until the data stop changing. */
export async function setStage(t: Teardown, shop: Shop) {
  const stage = await fill(t, shop);
  const snapshot = await snapshots(t, Object.values(shop.mesh));
  await standstill(snapshot);
  const doors = await openDoors(t, shop);
  return { stage, snapshot, ...doors };
}

async function fill(t: Teardown, shop: Shop): Promise<Stage> {
  const { staff, customer } = shop;
  const sku = await shop.stock(1_000n - 10n);
  const [dollarSku, dearSku, archivedSku] = [
    await shop.stock(5n, { USD: 100n }),
    await shop.stock(5n, { EUR: 10n ** 14n }),
    await shop.stock(5n),
  ];
  const { products } = await staff.catalog.listProducts({ includeArchived: true });
  const productOf = (wanted: string) => products.find((one) => one.variants.some((variant) => variant.sku === wanted))!;
  await staff.catalog.archiveProduct({ productId: productOf(archivedSku).productId });
  const { productId, categoryId } = productOf(sku);
  const placed = wish(sku);
  const bought = await buy(customer, placed);
  const rejected = await buy(customer, wish(await shop.stock(0n).then(async (bare) => bare)));
  if (stateName(bought) !== 'COMPLETED' || stateName(rejected) !== 'REJECTED') {
    throw new Error(`the orders of the stage ended ${stateName(bought)} and ${stateName(rejected)}`);
  }
  const tls = await workloadCertificate('orders');
  const inventory = inventoryClient({ addresses: [shop.service('inventory').grpc], tls });
  const payments = paymentsClient({ addresses: [shop.service('payments').grpc], tls });
  t.teardown(() => {
    inventory.close();
    payments.close();
  });
  const reserved = { requestId: uuid(), reservationId: uuid(), orderId: uuid(), lines: [{ sku, quantity: 1n }] };
  await inventory.reserveStock(reserved);
  const received = { requestId: uuid(), locationId: 'main', lines: [{ sku, quantity: 7n }] };
  await staff.inventory.receiveStock(received);
  const created = { requestId: uuid(), slug: 'more', title: 'More things' };
  await staff.catalog.createCategory(created);
  const made = {
    requestId: uuid(),
    categoryId,
    title: 'Made',
    variants: [{ sku: 'MADE', title: 'x', prices: [{ currencyCode: 'EUR', amountMinor: 1n }] }],
  };
  await staff.catalog.createProduct(made);
  const authorized = {
    requestId: uuid(),
    paymentId: uuid(),
    orderId: uuid(),
    customerId: 'ada',
    amount: { currencyCode: 'EUR', amountMinor: 100n },
    paymentMethod: 'card_ok',
  };
  await payments.authorizePayment(authorized);
  const ids = { orderId: bought.orderId, paymentId: bought.paymentId, rejectedOrderId: rejected.orderId };
  return {
    sku,
    dollarSku,
    dearSku,
    archivedSku,
    categoryId,
    productId,
    ...ids,
    placed,
    reserved,
    created: made,
    received,
    authorized,
  };
}

/** Waits for events, e-mails and publish marks: two snapshots half a second apart must be equal. */
export async function standstill(snapshot: () => Promise<Snapshot>): Promise<void> {
  const deadline = Date.now() + 20_000;
  let last = '';
  for (let equal = 0; equal < 3; ) {
    const now = JSON.stringify(await snapshot());
    equal = now === last ? equal + 1 : 0;
    last = now;
    if (Date.now() > deadline) throw new Error(`the data still change after the limit: ${now}`);
    await sleep(250);
  }
}

/** Opens the connections of good and bad callers, and makes their tokens. */
async function openDoors(t: Teardown, shop: Shop) {
  const { state } = await testServers();
  const ca = await readCa(state);
  const opened = new Map<string, Promise<Wire>>();
  const open = (service: string, name: string, credentials: WireCredentials): Promise<Wire> => {
    const key = `${service} ${name}`;
    let wire = opened.get(key);
    if (!wire) {
      wire = openWire(shop.service(service).grpc, credentials);
      opened.set(key, wire);
    }
    return wire;
  };
  t.teardown(async () => {
    for (const wire of opened.values()) (await wire).close();
  });
  const users = new Map<string, Promise<string>>();
  const tokenOf = (user: string) => {
    let minted = users.get(user);
    if (!minted) {
      minted = token(user);
      users.set(user, minted);
    }
    return minted;
  };
  const strangers: Record<string, Wire> = {};
  for (const [name, credentials] of Object.entries(await strangeCertificates(ca))) {
    strangers[name] = await open('inventory', name, { ca: ca.pem, ...credentials });
  }
  const ports: Record<string, { anonymous: Wire; foreign: Wire; acquirer: Wire; developer: Wire }> = {};
  const foreign = pemOf(await foreignCertificate());
  for (const service of new Set(contracts.map((one) => one.service))) {
    ports[service] = {
      anonymous: await open(service, 'anonymous', { ca: ca.pem }),
      foreign: await open(service, 'foreign', { ca: ca.pem, ...foreign }),
      acquirer: await open(service, 'acquirer', await workloadCertificate('acquirer')),
      developer: await open(service, 'developer', await workloadCertificate('developer')),
    };
  }
  return {
    /** "orders" is the certificate of that service, "developer+bo" a certificate with the token of a user. */
    async credentialsOf(who: string, method: MethodContract) {
      const [workload = '', user] = who.split('+');
      const wire = await open(serviceOf(method), workload, await workloadCertificate(workload));
      return { wire, headers: user ? { authorization: `Bearer ${await tokenOf(user)}` } : {} };
    },
    wires: {
      strangers,
      ports: (service: string) => ports[service]!,
      badTokens: await badTokens(),
      expiredToken: await token('bo', { expiresInSeconds: -60 }),
    },
  };
}

export const pemOf = ({ pem, keyPem }: Issued) => ({ cert: pem, key: keyPem });

export async function foreignCertificate(): Promise<Issued> {
  const ca = await issueCertificate({ commonName: 'Armature development CA', isCa: true });
  return issueCertificate(workloadRequest(ca, `spiffe://${trustDomain}/service/orders`));
}

/** Certificates without a valid identity; most are signed by the mesh's own authority. */
async function strangeCertificates(ca: Issued): Promise<Record<string, { cert?: string; key?: string }>> {
  const orders = `spiffe://${trustDomain}/service/orders`;
  const issue = async (...uris: string[]) => pemOf(await issueCertificate({ ca, commonName: 'orders', uris }));
  const dayMs = 24 * 3_600_000;
  const past = { notBefore: new Date(Date.now() - 2 * dayMs), notAfter: new Date(Date.now() - dayMs) };
  const future = { notBefore: new Date(Date.now() + dayMs), notAfter: new Date(Date.now() + 2 * dayMs) };
  return {
    none: {},
    'of a foreign authority': pemOf(await foreignCertificate()),
    'signed by itself': pemOf(await issueCertificate({ commonName: 'orders', uris: [orders] })),
    'with two SPIFFE ids': await issue(orders, `spiffe://${trustDomain}/workload/developer`),
    'with the same SPIFFE id twice': await issue(orders, orders),
    'with a SPIFFE id and another URI': await issue(orders, 'https://example.com'),
    'with no SPIFFE id': await issue(),
    'with a name alone': pemOf(await issueCertificate({ ca, commonName: orders, dns: ['orders'] })),
    'of another trust domain': await issue('spiffe://example.com/service/orders'),
    'of a trust domain that begins like ours': await issue(`spiffe://${trustDomain}.example.com/service/orders`),
    'of a path that is no workload': await issue(`spiffe://${trustDomain}/orders`),
    'of a longer path': await issue(`${orders}/admin`),
    'in upper case': await issue(orders.toUpperCase()),
    'that has expired': pemOf(await issueCertificate({ ...workloadRequest(ca, orders), ...past })),
    'that is not valid yet': pemOf(await issueCertificate({ ...workloadRequest(ca, orders), ...future })),
    'of an authority': pemOf(await issueCertificate({ ...workloadRequest(ca, orders), isCa: true })),
  };
}

/** Values of the authorization header that identify no caller. */
async function badTokens(): Promise<Record<string, string>> {
  const good = await token('bo');
  const [head = '', body = '', signature = ''] = good.split('.');
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as object;
  const bearer = (value: string) => `Bearer ${value}`;
  return {
    expired: bearer(await token('bo', { expiresInSeconds: -60 })),
    'not valid yet': bearer(await token('bo', { issuedAt: new Date(Date.now() + 3_600_000) })),
    'of another issuer': bearer(await token('bo', { issuer: 'https://identity.example.com' })),
    'for another audience': bearer(await token('bo', { audience: 'billing' })),
    'for several audiences': bearer(await token('bo', { audience: ['armature', 'billing'] })),
    'of another type': bearer(await token('bo', { type: 'JWT' })),
    'of an unknown key': bearer(await token('bo', { keyId: 'unknown' })),
    'of a user that is none': bearer(await token('../admin')),
    'without a signature': bearer(`${head}.${body}.`),
    'with a signature of another': bearer(`${head}.${body}.${signature.split('').reverse().join('')}`),
    'with other claims': bearer(`${head}.${encode({ ...claims, sub: 'admin' })}.${signature}`),
    'that says it needs no signature': bearer(`${encode({ alg: 'none', typ: 'at+jwt' })}.${body}.`),
    'of two parts': bearer(`${head}.${body}`),
    'of one character': bearer('x'),
    empty: 'Bearer',
    'of nothing': '',
    'by password': `Basic ${Buffer.from('bo:hunter2').toString('base64')}`,
    'with something behind it': `${bearer(good)}, ${bearer(good)}`,
    'with characters outside ASCII': 'Bearer käse',
    'of 8 KiB': bearer('x'.repeat(8_300)),
  };
}
