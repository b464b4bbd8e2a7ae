import { X509Certificate } from 'node:crypto';
import t from 'tap';
import { type CertificateRequest, issueCertificate } from '../../../scripts/devmesh/certificates.ts';
import { uriNames, workloadOf } from './spiffe.ts';

const ca = await issueCertificate({ isCa: true, commonName: 'test root' });

async function issue(request: CertificateRequest): Promise<X509Certificate> {
  const { pem } = await issueCertificate({ ca, commonName: 'leaf', ...request });
  return new X509Certificate(pem);
}

const orders = 'spiffe://armature.local/service/orders';

t.test('the workload behind a certificate', async (t) => {
  const rows: { name: string; request: CertificateRequest; workload: string | null }[] = [
    { name: 'a service', request: { uris: [orders] }, workload: 'service:orders' },
    {
      name: 'a workload that is no service',
      request: { uris: ['spiffe://armature.local/workload/developer'] },
      workload: 'workload:developer',
    },
    {
      name: 'names of other kinds beside the id',
      request: { uris: [orders], dns: ['localhost', 'orders'], ips: ['127.0.0.1'] },
      workload: 'service:orders',
    },
    { name: 'no name at all', request: {}, workload: null },
    { name: 'no URI name', request: { dns: ['orders.armature.local'] }, workload: null },
    {
      name: 'two ids',
      request: { uris: [orders, 'spiffe://armature.local/service/payments'] },
      workload: null,
    },
    { name: 'the same id twice', request: { uris: [orders, orders] }, workload: null },
    { name: 'an id and another URI', request: { uris: [orders, 'https://example.com/'] }, workload: null },
    { name: 'a URI that is no id', request: { uris: ['https://armature.local/service/orders'] }, workload: null },
    { name: 'a certificate authority', request: { uris: [orders], isCa: true }, workload: null },
    { name: 'another trust domain', request: { uris: ['spiffe://evil.local/service/orders'] }, workload: null },
    {
      name: 'a trust domain that begins like ours',
      request: { uris: ['spiffe://armature.local.evil/service/orders'] },
      workload: null,
    },
    {
      name: 'our trust domain as user information',
      request: { uris: ['spiffe://armature.local@evil/service/orders'] },
      workload: null,
    },
    { name: 'a port', request: { uris: ['spiffe://armature.local:443/service/orders'] }, workload: null },
    { name: 'an upper-case scheme', request: { uris: ['SPIFFE://armature.local/service/orders'] }, workload: null },
    { name: 'an upper-case name', request: { uris: ['spiffe://armature.local/service/Orders'] }, workload: null },
    {
      name: 'a kind of path that is not known',
      request: { uris: ['spiffe://armature.local/role/admin'] },
      workload: null,
    },
    { name: 'one path segment', request: { uris: ['spiffe://armature.local/service'] }, workload: null },
    { name: 'an empty name', request: { uris: ['spiffe://armature.local/service/'] }, workload: null },
    { name: 'three path segments', request: { uris: [`${orders}/extra`] }, workload: null },
    { name: 'a slash at the end', request: { uris: [`${orders}/`] }, workload: null },
    { name: 'an empty segment', request: { uris: ['spiffe://armature.local//service/orders'] }, workload: null },
    { name: 'dots', request: { uris: ['spiffe://armature.local/service/../service/orders'] }, workload: null },
    { name: 'percent encoding', request: { uris: ['spiffe://armature.local/service/%6frders'] }, workload: null },
    { name: 'a query', request: { uris: [`${orders}?as=payments`] }, workload: null },
    { name: 'a fragment', request: { uris: [`${orders}#payments`] }, workload: null },
    { name: 'a line break', request: { uris: [`${orders}\n`] }, workload: null },
    { name: 'a null byte', request: { uris: [`${orders}\0`] }, workload: null },
    {
      name: 'a name of 64 characters',
      request: { uris: [`spiffe://armature.local/service/${'a'.repeat(64)}`] },
      workload: null,
    },
    {
      name: 'an id inside the value of a DNS name',
      request: { dns: [`x, URI:${orders}`] },
      workload: null,
    },
    {
      name: 'a second id hidden inside the value of the first',
      request: { uris: [`${orders}, URI:spiffe://armature.local/service/payments`] },
      workload: null,
    },
    {
      name: 'a quoted value that hides another id',
      request: { dns: [`x", URI:${orders}, DNS:"`], uris: ['spiffe://armature.local/service/payments'] },
      workload: 'service:payments',
    },
  ];
  for (const row of rows) {
    t.test(row.name, async (t) => {
      const certificate = await issue(row.request);
      t.equal(workloadOf(certificate, 'armature.local'), row.workload);
      t.equal(workloadOf({ raw: certificate.raw }, 'armature.local'), row.workload, 'by its bytes');
    });
  }
});

t.test('nothing is taken on trust', async (t) => {
  const certificate = await issue({ uris: [orders] });
  t.equal(workloadOf({}, 'armature.local'), null, 'no bytes: what an object says about itself does not count');
  t.equal(workloadOf({ raw: Buffer.from('no certificate') }, 'armature.local'), null, 'bytes that are no certificate');
  t.equal(workloadOf({ raw: certificate.raw.subarray(0, 100) }, 'armature.local'), null, 'half a certificate');
  t.equal(workloadOf(certificate, 'armature.local'), 'service:orders');
  t.equal(workloadOf(certificate, 'armature.local'), 'service:orders', 'remembered');
  t.equal(workloadOf(certificate, 'other.local'), null, 'what is remembered belongs to one trust domain');
});

t.test("node's text form of names", async (t) => {
  for (const row of [
    { text: 'URI:a', uris: ['a'] },
    { text: 'DNS:localhost, IP Address:127.0.0.1, URI:a, URI:b', uris: ['a', 'b'] },
    { text: 'URI:"a\\u002c URI:b", DNS:c', uris: ['"a\\u002c URI:b"'] },
    { text: 'DNS:"a\\", URI:b"', uris: [] },
    { text: 'URI:"a', uris: null },
    { text: 'DNS:a"b, URI:c', uris: null },
    { text: 'URI:a,URI:b', uris: null },
    { text: 'no name', uris: null },
    { text: `URI:${'a'.repeat(5000)}`, uris: null },
  ]) {
    t.same(uriNames(row.text), row.uris, row.text.slice(0, 60));
  }
});
