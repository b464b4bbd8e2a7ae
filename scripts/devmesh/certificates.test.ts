import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import t from 'tap';
import {
  certificateFiles,
  ensureCertificates,
  issueCertificate,
  readCa,
  saveCertificate,
  serverNames,
  workloadIds,
  workloadRequest,
} from './certificates.ts';
import { openState } from './state.ts';

const dayMs = 24 * 3600 * 1000;

t.test('every workload has a certificate that the CA has issued', async (t) => {
  const state = openState(t.testdir());
  const names = Object.keys(workloadIds());
  t.same((await ensureCertificates(state)).sort(), [...names, ...serverNames, 'ca'].sort());
  const ca = new X509Certificate(readFileSync(certificateFiles(state, 'ca').cert));
  t.ok(ca.ca);
  for (const [name, id] of Object.entries(workloadIds())) {
    await t.test(name, async (t) => {
      const files = certificateFiles(state, name);
      const leaf = new X509Certificate(readFileSync(files.cert));
      t.equal(leaf.subjectAltName, `URI:${id}, DNS:localhost, IP Address:127.0.0.1`);
      t.ok(leaf.verify(ca.publicKey), 'signed by the CA');
      t.ok(leaf.checkIssued(ca), 'issued by the CA');
      t.notOk(leaf.ca);
      t.equal(leaf.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');
      const days = (leaf.validToDate.getTime() - Date.now()) / dayMs;
      t.ok(days > 29 && days <= 30, `valid for 30 days: ${days}`);
      t.equal(statSync(files.key).mode & 0o777, 0o600, 'only its owner reads the key');
    });
  }
});

t.test('a database and a broker are known by name only, and are no workload of the mesh', async (t) => {
  const state = openState(t.testdir());
  await ensureCertificates(state);
  for (const name of serverNames) {
    const leaf = new X509Certificate(readFileSync(certificateFiles(state, name).cert));
    t.equal(leaf.subjectAltName, 'DNS:localhost, IP Address:127.0.0.1');
    t.same(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1'], 'for servers alone');
  }
});

t.test('what is good is kept, and what ends soon is renewed with its key', async (t) => {
  const state = openState(t.testdir());
  await ensureCertificates(state);
  t.same(await ensureCertificates(state), [], 'nothing to do');
  const ca = await readCa(state);
  const id = workloadIds().orders!;
  const soon = await issueCertificate({ ...workloadRequest(ca, id), notAfter: new Date(Date.now() + 6 * dayMs) });
  const files = saveCertificate(state, 'orders', soon);
  t.same(await ensureCertificates(state), ['orders']);
  const renewed = new X509Certificate(readFileSync(files.cert));
  t.ok(renewed.validToDate.getTime() > Date.now() + 29 * dayMs);
  t.equal(readFileSync(files.key, 'utf8').trim(), soon.keyPem, 'the same key, so the two files always fit');
});

t.test('a certificate of another CA is replaced', async (t) => {
  const state = openState(t.testdir());
  await ensureCertificates(state);
  const other = await issueCertificate({ commonName: 'other', isCa: true });
  saveCertificate(state, 'orders', await issueCertificate(workloadRequest(other, workloadIds().orders!)));
  t.same(await ensureCertificates(state), ['orders']);
});

t.test('bad certificates can be had for tests', async (t) => {
  const ca = await issueCertificate({ commonName: 'x', isCa: true });
  const two = await issueCertificate({ ca, uris: ['spiffe://a/service/x', 'spiffe://a/service/y'] });
  t.equal(new X509Certificate(two.pem).subjectAltName, 'URI:spiffe://a/service/x, URI:spiffe://a/service/y');
  const past = new Date(Date.now() - dayMs);
  const over = await issueCertificate({ ca, notBefore: new Date(past.getTime() - dayMs), notAfter: past });
  t.ok(new X509Certificate(over.pem).validToDate < new Date());
});
