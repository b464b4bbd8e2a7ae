// Plants secrets in every input, and searches for them in everything that services store, expose or write.
import { createHmac, generateKeyPairSync, randomBytes } from 'node:crypto';
import type { OutgoingHttpHeaders } from 'node:http';
import { request } from 'node:https';
import { OrderConfirmedEvent } from '@armature/proto/orders/v1/contract.ts';
import { newId } from '@armature/runtime';
import t from 'tap';
import { certificateFiles } from '../../scripts/devmesh/certificates.ts';
import { identityTrust, webhookSecret } from '../../scripts/devmesh/environment.ts';
import { commandLine, personPassword } from '../../scripts/devmesh/people.ts';
import { signInPerson } from '../../scripts/devmesh/sign-in/flows.ts';
import { httpsTo } from '../../scripts/devmesh/sign-in/https.ts';
import { serviceNames } from '../../services/manifest.ts';
import { buy, openShop, wish } from '../e2e/shop.ts';
import { connectBroker, testServers } from '../support/infra.ts';
import { startMesh, token, workloadCertificate } from '../support/service.ts';
import { openPrincipals } from './access/principals.ts';
import { askings } from './access/requests.ts';
import { setScene } from './access/scene.ts';
import { type Canary, everywhere, type Place, sightings } from './canary-search.ts';
import { contracts as allContracts } from './contracts.ts';
import { snapshots } from './snapshot.ts';
import { standstill } from './stage.ts';
import { openWire, type RawResponse } from './wire.ts';

t.setTimeout(300_000);

/**
 * Places where a secret may be, and why. Each secret must really be found there, so the list has no needless places.
 */
const allowed: { kind: string; place: RegExp; because: string }[] = [
  {
    kind: 'message',
    place: /^notifications\.dead_letter\.(body|headers)$/,
    because: 'an operator must see what it was',
  },
];

const canaries: Canary[] = [];
function plant(kind: string, make: (random: string) => string = (random) => `Canary ${random}`): string {
  const value = make(randomBytes(16).toString('hex'));
  canaries.push({ kind, value });
  return value;
}

const shop = await openShop(t);
const scene = await setScene(t, shop);
const services = Object.values(shop.mesh);
const present = new Set(Object.keys(shop.mesh));
const contracts = allContracts.filter(({ service }) => present.has(service));
const principals = await openPrincipals(t, shop.service);
const responses: Place[] = [];
const note = (from: string, response: RawResponse): RawResponse => {
  const { headers, replies, message } = response;
  const status = Buffer.from(headers['grpc-status-details-bin'] ?? '', 'base64');
  responses.push({
    place: `response of ${from}`,
    content: Buffer.concat([status, ...replies, Buffer.from(JSON.stringify({ headers, message }))]),
  });
  return response;
};

t.test('finds a planted canary', async (t) => {
  const proof = { kind: 'proof', value: `Canary ${randomBytes(16).toString('hex')}` };
  await shop.staff.catalog.createCategory({ slug: 'canary', title: proof.value });
  const vhost = shop.service('orders').vhost!;
  const connection = await connectBroker(vhost.adminUrl);
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue('canary', { durable: true });
  channel.sendToQueue('canary', Buffer.from(`{"title":"${Buffer.from(`xx${proof.value}xx`).toString('base64')}"}`));
  await channel.waitForConfirms();
  const places = sightings([proof], await everywhere(services)).map(({ place }) => place);
  t.ok(places.includes('catalog.category.title'), 'in a row');
  t.ok(places.includes('queue canary'), 'in a message, in Base64');
  t.ok(places.includes('catalog.idempotency.body'), 'in the bytes of a response that is kept');
  const log = { place: 'log', content: Buffer.from(`{"msg":"${proof.value}"}`) };
  t.strictSame(sightings([proof], [log]), [{ kind: 'proof', place: 'log' }], 'in a line of a log');
  await channel.deleteQueue('canary');
  await connection.close();
});

t.test('plants secrets in their own fields', async () => {
  const card = 'card_ok';
  canaries.push({ kind: 'card', value: card });
  await buy(shop.customer, wish(scene.sku, { paymentMethod: card }));
  const unknown = plant('card', (random) => `card_${random}`);
  await buy(shop.customer, wish(scene.sku, { paymentMethod: unknown }));
  const bearer = await token('ada');
  canaries.push({ kind: 'token', value: bearer.split('.')[2]! });
  const wire = await openWire(shop.service('orders').grpc, await workloadCertificate('developer'));
  const { method, build } = askings.get('/armature.orders.v1.OrderService/GetOrder')!;
  const headers = { authorization: `Bearer ${bearer}` };
  note(method.name, await wire.call(method.path, { message: build(scene, 'own'), headers }));
  wire.close();
});

t.test('plants secrets in requests to identity', { skip: !scene.identity && 'there is no identity' }, async () => {
  const password = () => plant('password');
  const mailToken = () => plant('mail token', (random) => `${random}${random}`);
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = privateKey.export({ format: 'jwk' });
  canaries.push({ kind: 'private key', value: jwk.d! });
  const pem = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
  canaries.push({ kind: 'private key', value: pem.split('\n')[1]! });
  const program = () => ({ accountId: newId(), displayName: 'A program' });
  const userId = scene.identity!.userId;
  const inputs: [string, string, object][] = [
    ['RegisterUser', 'own', { email: `${newId()}@example.org`, password: password(), displayName: 'Test person' }],
    ['ChangePassword', 'own', { userId, currentPassword: password(), newPassword: password() }],
    ['VerifyEmail', 'own', { token: mailToken(), password: password() }],
    ['UndoEmailChange', 'own', { token: mailToken(), newPassword: password() }],
    ['ResetPassword', 'own', { token: mailToken(), newPassword: password() }],
    ['CreateServiceAccount', 'admin', { ...program(), publicJwk: JSON.stringify(jwk) }],
    ['CreateServiceAccount', 'admin', { ...program(), publicJwk: pem }],
  ];
  for (const [name, column, message] of inputs) {
    const { method } = askings.get(`/armature.identity.v1.IdentityService/${name}`)!;
    const bytes = method.request.encode(method.request.fromPartial({ requestId: newId(), ...message })).finish();
    const subject = name === 'ChangePassword' ? userId : undefined;
    note(method.name, await principals.call(column, { service: 'identity', method, message: bytes, subject }));
  }
  for (const one of pagesOf(password, mailToken)) {
    responses.push({ place: 'page of identity', content: await visit(shop.service('identity').http, one) });
  }
});

t.test('plants secrets in webhooks', async (t) => {
  const { state } = await testServers();
  const secret = webhookSecret(state);
  canaries.push({ kind: 'webhook secret', value: secret });
  const path = '/v1/acquirer/events';
  const json = { 'content-type': 'application/json' };
  const event = () =>
    JSON.stringify({
      event_id: plant('event', (random) => `evt_${random}`),
      idempotency_key: newId(),
      note: plant('event'),
    });
  const signed = (body: string, by: string) => {
    const timestampS = Math.floor(Date.now() / 1_000);
    return `t=${timestampS},v1=${createHmac('sha256', by).update(`${timestampS}.${body}`).digest('hex')}`;
  };
  const [genuine, forged, malformed] = [event(), event(), plant('event')];
  const unsigned = plant('signature');
  const deliveries: [string, Visit][] = [
    ['unknown', { path, body: genuine, headers: { ...json, 'acquirer-signature': signed(genuine, secret) } }],
    ['forged', { path, body: forged, headers: { ...json, 'acquirer-signature': signed(forged, 'another') } }],
    ['malformed', { path, body: malformed, headers: { ...json, 'acquirer-signature': signed(malformed, secret) } }],
    ['unsigned', { path, body: event(), headers: { ...json, 'acquirer-signature': unsigned } }],
    ['lost', { path: `/${plant('path', (random) => random)}`, body: event(), headers: json }],
  ];
  for (const [outcome, delivery] of deliveries) {
    const content = await visit(shop.service('payments').http, delivery);
    t.match(content.toString(), `{"outcome":"${outcome}"}`);
    responses.push({ place: 'response to a webhook', content });
  }
});

t.test('plants secrets by signing in', { skip: !scene.identity && 'there is no identity' }, async (t) => {
  const { state } = await testServers();
  // This identity names itself as the issuer, as a client requires.
  const { identity } = await startMesh(t, ['identity'], {}, { realIdentity: true });
  const { issuer } = identityTrust(identity!.http);
  const https = httpsTo('service:identity', certificateFiles(state, 'ca').cert);
  const ada = { issuer, https, ...commandLine, email: 'ada@example.org' };
  const right = personPassword(state, 'ada');
  canaries.push({ kind: 'password', value: right });
  const { token: issued } = await signInPerson({ ...ada, password: right });
  canaries.push({ kind: 'token', value: issued.split('.')[2]! });
  await t.rejects(signInPerson({ ...ada, password: plant('password') }), /do not belong together/);
  responses.push(...(await everywhere([identity!])));
});

interface Visit {
  path: string;
  body?: string;
  headers?: OutgoingHttpHeaders;
}

/** Requests to the pages and the provider that must fail, each with secrets in it. */
function pagesOf(password: () => string, mailToken: () => string): Visit[] {
  const form = { 'content-type': 'application/x-www-form-urlencoded' };
  const json = { 'content-type': 'application/json' };
  const encoded = (fields: Record<string, string>) => new URLSearchParams(fields).toString();
  return [
    { path: '/token', headers: json, body: `{"client_secret":"${password()}"` },
    { path: '/token', headers: form, body: encoded({ grant_type: 'password', username: 'ada', password: password() }) },
    { path: '/token', headers: form, body: encoded({ grant_type: 'refresh_token', refresh_token: mailToken() }) },
    { path: '/token', headers: { ...form, authorization: `Basic ${btoa(`x:${password()}`)}` }, body: 'grant_type=x' },
    { path: '/reset-password', headers: form, body: encoded({ token: mailToken(), password: password() }) },
    { path: '/verify-email', headers: form, body: encoded({ token: mailToken(), csrf: 'x', password: password() }) },
    { path: '/undo-email-change', headers: form, body: encoded({ token: mailToken(), password: password() }) },
    { path: '/interaction/none', headers: form, body: encoded({ email: 'ada@example.org', password: password() }) },
    { path: '/me', headers: { authorization: `Bearer ${mailToken()}` } },
    { path: '/none', headers: { cookie: `_session=${mailToken()}`, traceparent: mailToken() } },
  ];
}

async function visit(address: string, { path, body, headers }: Visit): Promise<Buffer> {
  const { ca } = await workloadCertificate('developer');
  const [host, port] = address.split(':');
  return new Promise((resolve, reject) => {
    const method = body === undefined ? 'GET' : 'POST';
    const asked = request({ host, port, path, method, headers, ca, servername: 'localhost', agent: false });
    asked.on('error', reject);
    asked.on('response', (response) => {
      const chunks: Buffer[] = [Buffer.from(JSON.stringify(response.headers))];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => resolve(Buffer.concat(chunks)));
    });
    asked.end(body);
  });
}

t.test('plants secrets in every other field', async (t) => {
  const misplaced = plant('misplaced');
  let calls = 0;
  for (const { service, contract } of contracts) {
    for (const method of Object.values(contract.methods)) {
      const { build, subject } = askings.get(method.path)!;
      for (const column of ['own', 'admin', 'orders'] as const) {
        const decoded = method.request.decode(build(scene, column));
        const spoiled = method.request.encode(everyStringOf(decoded, misplaced)).finish();
        const message = { service, method, message: spoiled, subject: subject(scene, column) };
        note(method.name, await principals.call(column, message));
        calls += 1;
      }
    }
  }
  t.comment(`${calls} calls with a secret in every string`);
});

/** The same message with every string replaced by `text`, also in lists and nested messages. */
function everyStringOf(value: unknown, text: string): unknown {
  if (typeof value === 'string') return text;
  if (Array.isArray(value)) return value.map((one) => everyStringOf(one, text));
  if (typeof value !== 'object' || value === null || value instanceof Date || Buffer.isBuffer(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, everyStringOf(one, text)]));
}

t.test('plants secrets around a message', async () => {
  const bearer = await token('bo');
  const header = (name: string) => ({ [name]: plant('header', (random) => `canary-${random}`) });
  const headers = {
    authorization: `Bearer ${bearer}`,
    ...['x-api-key', 'cookie', 'traceparent', 'tracestate', 'baggage', 'x-request-id', 'user-agent', 'grpc-tags-bin']
      .map(header)
      .reduce((all, one) => Object.assign(all, one), {}),
  };
  const unknownField = plant('unknown field');
  for (const { service, contract } of contracts) {
    const wire = await openWire(shop.service(service).grpc, await workloadCertificate('developer'));
    const bad = await openWire(shop.service(service).grpc, await workloadCertificate('developer'));
    for (const method of Object.values(contract.methods)) {
      const { build } = askings.get(method.path)!;
      const known = Buffer.from(build(scene, 'staff'));
      // Field 1,999, of bytes: as a newer client may send.
      const field = Buffer.from([0xfa, 0x7c, unknownField.length]);
      const message = Buffer.concat([known, field, Buffer.from(unknownField)]);
      note(method.name, await wire.call(method.path, { message, headers, repliesMax: 1 }));
      const authorization = `Bearer ${plant('token', (random) => `eyJ${random}.${random}.${random}`)}`;
      note(method.name, await bad.call(method.path, { message: known, headers: { authorization } }));
      const malformed = Buffer.from(
        plant('malformed', (random) => `\xff${random}`),
        'latin1',
      );
      note(method.name, await wire.call(method.path, { message: malformed, headers }));
    }
    wire.close();
    bad.close();
  }
});

t.test('plants secrets in broker messages', async () => {
  const { vhost } = shop.service('notifications');
  const body = (text: string) => Buffer.from(`\xff${text}`, 'latin1');
  for (const account of [...serviceNames, 'operator']) {
    const url = account === 'operator' ? vhost!.adminUrl : vhost!.url(account);
    const connection = await connectBroker(url);
    const channel = await connection.createConfirmChannel();
    channel.on('error', () => {});
    const secret = plant('message');
    channel.publish('armature.events', OrderConfirmedEvent.routingKey, body(secret), {
      messageId: newId(),
      type: OrderConfirmedEvent.type,
      headers: { 'aggregate-id': newId(), sequence: '1', traceparent: plant('message'), secret },
      ...(account === 'operator' ? {} : { userId: account }),
    });
    await channel.waitForConfirms().catch(() => {});
    await connection.close().catch(() => {});
  }
});

t.test('and found nowhere else', async (t) => {
  const look = await snapshots(t, services);
  await standstill(look);
  const seen = sightings(canaries, [...(await everywhere(services)), ...responses]);
  const isAllowed = ({ kind, place }: (typeof seen)[number]) =>
    allowed.some((one) => one.kind === kind && one.place.test(place));
  t.strictSame(
    seen.filter((one) => !isAllowed(one)),
    [],
    'secrets in places that are not allowed',
  );
  for (const { kind, place, because } of allowed) {
    const found = seen.some((one) => one.kind === kind && place.test(one.place));
    t.ok(found, `${kind} in ${place.source}: ${because}`);
  }
  t.comment(`${canaries.length} canaries, ${responses.length} responses`);
});
