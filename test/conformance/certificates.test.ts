// Tests over the wire which certificates servers and clients accept for a workload.
import { randomUUID } from 'node:crypto';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { inventoryClient } from '@armature/clients';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import t, { type Test } from 'tap';
import {
  type CertificateRequest,
  type Issued,
  issueCertificate,
  readCa,
  saveCertificate,
  serverNames,
  trustDomain,
  workloadRequest,
} from '../../scripts/devmesh/certificates.ts';
import { testServers } from '../support/infra.ts';
import { developerCredentials, startService, workloadCertificate } from '../support/service.ts';
import { leaksOf } from './leaks.ts';
import { openWire, type WireCredentials } from './wire.ts';

t.setTimeout(120_000);
const { state } = await testServers();
const ca = await readCa(state);
const dayMs = 24 * 3_600_000;
const at = (days: number) => new Date(Date.now() + days * dayMs);

/** A certificate with its key, and the certificates that are sent along as its chain. */
type Bearer = Issued & { chain?: Issued };

/** Certificates that must be refused for `id`, by what is wrong with them. */
function badCertificates(id: string): Record<string, () => Promise<Bearer>> {
  const request = workloadRequest(ca, id);
  const issue = (changes: CertificateRequest) => () => issueCertificate({ ...request, ...changes });
  const named = (...uris: string[]) => issue({ uris });
  const [, path] = id.split(`spiffe://${trustDomain}/`);
  return {
    'has expired': issue({ notBefore: at(-2), notAfter: at(-1) }),
    'is not valid yet': issue({ notBefore: at(1), notAfter: at(2) }),
    'is of a foreign authority': async () =>
      issueCertificate({ ...request, ca: await issueCertificate({ commonName: 'foreign', isCa: true }) }),
    'is of a foreign authority with the name of ours': async () =>
      issueCertificate({
        ...request,
        ca: await issueCertificate({ commonName: 'Armature development CA', isCa: true }),
      }),
    'is signed by itself': issue({ ca: undefined }),
    'is signed by a workload, which is no authority': async () => {
      const chain = await issueCertificate(request);
      return { ...(await issueCertificate({ ...request, ca: chain })), chain };
    },
    'is an authority itself': issue({ isCa: true }),
    'has no SPIFFE id': named(),
    'has a DNS name of the same look': issue({ uris: [], dns: ['localhost', id] }),
    'has the id as its common name': issue({ uris: [], commonName: id }),
    'has two ids': named(id, `spiffe://${trustDomain}/workload/developer`),
    'has the same id twice': named(id, id),
    'has an id and another URI': named(id, 'https://example.com/'),
    'is of another trust domain': named(`spiffe://example.org/${path}`),
    'is of a trust domain that begins like ours': named(`spiffe://${trustDomain}.example.org/${path}`),
    'is of a trust domain that ends like ours': named(`spiffe://x.${trustDomain}/${path}`),
    'is of our trust domain in upper case': named(`spiffe://${trustDomain.toUpperCase()}/${path}`),
    'has a scheme in upper case': named(id.replace('spiffe:', 'SPIFFE:')),
    'has another scheme': named(id.replace('spiffe:', 'https:')),
    'has a name in upper case': named(`spiffe://${trustDomain}/${path?.toUpperCase()}`),
    'has a slash at the end': named(`${id}/`),
    'has one more segment': named(`${id}/admin`),
    'has an empty segment': named(`spiffe://${trustDomain}//${path}`),
    'has a segment of dots': named(`spiffe://${trustDomain}/x/../${path}`),
    'has a query': named(`${id}?as=admin`),
    'has a fragment': named(`${id}#admin`),
    'has user information': named(`spiffe://admin@${trustDomain}/${path}`),
    'has a port': named(`spiffe://${trustDomain}:443/${path}`),
    'is percent-encoded': named(id.replace('service', '%73ervice')),
    'ends with a null byte': named(`${id}\0`),
    'has a name that is too long': named(`spiffe://${trustDomain}/service/${'a'.repeat(64)}`),
    'has an id longer than any may be': named(`spiffe://${trustDomain}/service/${'a'.repeat(2_048)}`),
  };
}

const pemOf = ({ pem, keyPem, chain }: Bearer) => ({
  cert: chain ? `${pem}\n${chain.pem}` : pem,
  key: keyPem,
});

const orders = `spiffe://${trustDomain}/service/orders`;

t.test('a running service', async (t) => {
  const service = await startService(t, 'inventory');
  const method = InventoryServiceContract.methods.getReservation;
  const message = method.request.encode(method.request.fromPartial({ reservationId: randomUUID() })).finish();
  /** The whole response as text, or the TLS alert that ended the handshake. */
  const ask = async (credentials: Omit<WireCredentials, 'ca'>) => {
    const wire = await openWire(service.grpc, { ca: ca.pem, ...credentials });
    const response = await wire.call(method.path, { message });
    wire.close();
    const { date: _, 'grpc-status-details-bin': details, ...headers } = response.headers;
    return { response, text: JSON.stringify([headers, details]) };
  };
  const withoutCertificate = await ask({});

  await t.test('accepts a workload', async (t) => {
    const intermediate = await issueCertificate({ ca, commonName: 'between', isCa: true });
    const good: Record<string, Bearer> = {
      'with a certificate of the authority': await issueCertificate(workloadRequest(ca, orders)),
      // In an X.509-SVID the extension is optional; if present, it must contain the use.
      'whose certificate does not say what it is for': await issueCertificate({
        ...workloadRequest(ca, orders),
        usages: [],
      }),
      'through an authority between': {
        ...(await issueCertificate(workloadRequest(intermediate, orders))),
        chain: intermediate,
      },
    };
    for (const [name, bearer] of Object.entries(good))
      t.equal((await ask(pemOf(bearer))).response.code, 'NOT_FOUND', name);
  });

  t.ok(withoutCertificate.response.refused);
  t.strictSame(leaksOf(withoutCertificate.response), []);
  const strange: Record<string, () => Promise<Bearer>> = {
    ...badCertificates(orders),
    'is for servers alone': () => issueCertificate({ ...workloadRequest(ca, orders), usages: ['server'] }),
  };
  for (const [name, issue] of Object.entries(strange)) {
    await t.test(`refuses a certificate that ${name}, like no certificate, in the handshake`, async (t) => {
      const { response, text } = await ask(pemOf(await issue()));
      t.ok(response.refused);
      t.equal(text, withoutCertificate.text);
      t.strictSame(response.replies, []);
    });
  }
  for (const name of serverNames) {
    await t.test(`refuses the certificate of ${name}`, async (t) => {
      const { cert, key } = await workloadCertificate(name);
      t.equal((await ask({ cert, key })).text, withoutCertificate.text);
    });
  }

  await t.test('requires a certificate on every connection: no client can resume a session', async (t) => {
    const { cert, key } = await workloadCertificate('orders');
    t.equal(await resumed(service.grpc, { cert, key, ca: ca.pem }), false);
  });
  await t.test('still serves', async (t) => {
    t.equal((await ask(pemOf(await issueCertificate(workloadRequest(ca, orders))))).response.code, 'NOT_FOUND');
    t.notMatch(service.logs(), /"level":(50|60)/);
  });
});

/** Whether a second connection can resume the session of the first, in either version of TLS. */
async function resumed(address: string, credentials: WireCredentials): Promise<boolean> {
  const [host, port] = address.split(':');
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const options = {
      ...credentials,
      host,
      port: Number(port),
      servername: 'localhost',
      ALPNProtocols: ['h2'],
      minVersion: version,
      maxVersion: version,
    };
    let session: Buffer | undefined;
    for (const _ of [1, 2]) {
      const socket = connect({ ...options, ...(session ? { session } : {}) });
      socket.on('session', (fresh) => {
        session = fresh;
      });
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject);
        // The server's first frame comes after its tickets would have.
        socket.once('data', () => resolve());
      });
      const reused = socket.isSessionReused();
      socket.destroy();
      if (reused) return true;
    }
  }
  return false;
}

/** A server that presents this certificate and counts the bytes that it receives after the handshake. */
async function imposter(t: Test, bearer: Bearer) {
  const sockets = new Set<TLSSocket>();
  const heard = { connections: 0, bytes: 0 };
  const server = createServer({
    ...pemOf(bearer),
    ALPNProtocols: ['h2'],
    requestCert: true,
    rejectUnauthorized: false,
  });
  server.on('connection', () => {
    heard.connections += 1;
  });
  server.on('secureConnection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => {
      heard.bytes += bytes.length;
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (!address || typeof address === 'string') throw new Error('no port');
  return { address: `127.0.0.1:${address.port}`, heard };
}

t.test('a client', async (t) => {
  const tls = await developerCredentials();
  const inventory = `spiffe://${trustDomain}/service/inventory`;
  const known = async (name: string): Promise<Bearer> => {
    const { cert, key } = await workloadCertificate(name);
    return { ...ca, pem: cert.toString(), keyPem: key.toString() };
  };
  const strange: Record<string, () => Promise<Bearer>> = {
    ...badCertificates(inventory),
    'is for clients alone': () => issueCertificate({ ...workloadRequest(ca, inventory), usages: ['client'] }),
    'is of another service': () => known('orders'),
    'is of a person': () => known('developer'),
    'is of the database': () => known('mysql'),
    'is of a service whose name begins like it': () => issueCertificate(workloadRequest(ca, `${inventory}x`)),
  };
  for (const [name, issue] of Object.entries(strange)) {
    await t.test(`refuses a server whose certificate ${name}, and tells it nothing`, async (t) => {
      const { address, heard } = await imposter(t, await issue());
      const client = inventoryClient({ addresses: [address], tls, token: () => 'a-secret' });
      t.teardown(() => client.close());
      await t.rejects(client.receiveStock({ locationId: 'main', lines: [{ sku: 'X', quantity: 1n }] }), {
        code: 'UNAVAILABLE',
      });
      t.ok(heard.connections > 0, 'it did connect');
      t.equal(heard.bytes, 0, 'and has not said a word');
    });
  }
  await t.test('takes authorities from its own file only', async (t) => {
    const stranger = await issueCertificate({ commonName: 'stranger', isCa: true });
    const { address, heard } = await imposter(t, await issueCertificate(workloadRequest(ca, inventory)));
    const { cert: caFile } = saveCertificate(state, 'stranger-ca', stranger);
    const client = inventoryClient({ addresses: [address], tls: { ...tls, caFile } });
    t.teardown(() => client.close());
    await t.rejects(client.batchGetStock({ skus: ['X'] }), { code: 'UNAVAILABLE' });
    t.equal(heard.bytes, 0);
  });
});
