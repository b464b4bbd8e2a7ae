import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { type Issued, issueCertificate, workloadRequest } from '../../../scripts/devmesh/certificates.ts';
import { createRegistry } from '../telemetry/metrics.ts';
import { certificateGauge } from './certificate-gauge.ts';
import { certificatesIn, watchTls } from './tls-files.ts';

const ca = await issueCertificate({ isCa: true, commonName: 'one' });
const otherCa = await issueCertificate({ isCa: true, commonName: 'other' });
const issue = () => issueCertificate(workloadRequest(ca, 'spiffe://armature.local/service/orders'));
const [first, second] = [await issue(), await issue()];

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A watch over its own files that reads them every few milliseconds, and its log. */
function watched(t: Test, leaf: Issued = first) {
  const dir = t.testdir();
  const files = { certFile: join(dir, 'tls.pem'), keyFile: join(dir, 'tls.key'), caFile: join(dir, 'ca.pem') };
  const put = (file: keyof typeof files, text: string) => {
    writeFileSync(`${files[file]}.new`, text);
    renameSync(`${files[file]}.new`, files[file]);
  };
  put('certFile', leaf.pem);
  put('keyFile', leaf.keyPem);
  put('caFile', ca.pem);
  const warnings: string[] = [];
  const log = pino({}, { write: (line) => JSON.parse(line).level >= 40 && warnings.push(line) });
  const watch = watchTls(files, { log, pollMs: 5 });
  t.teardown(() => watch.stop());
  return { files, put, watch, warnings };
}

t.test('what is not whole is not used', async (t) => {
  const half = (text: string) => text.slice(0, text.length / 2);
  type Put = ReturnType<typeof watched>['put'];
  const rows: { name: string; spoil: (put: Put, files: ReturnType<typeof watched>['files']) => void }[] = [
    { name: 'a certificate without its key', spoil: (put) => put('certFile', second.pem) },
    { name: 'a key without its certificate', spoil: (put) => put('keyFile', second.keyPem) },
    { name: 'half a certificate', spoil: (put) => put('certFile', half(second.pem)) },
    { name: 'half a key', spoil: (put) => put('keyFile', half(second.keyPem)) },
    { name: 'half of the only authority', spoil: (put) => put('caFile', half(ca.pem)) },
    { name: 'the second authority cut off', spoil: (put) => put('caFile', `${ca.pem}\n${half(otherCa.pem)}`) },
    { name: 'an empty bundle of authorities', spoil: (put) => put('caFile', '') },
    { name: 'a bundle with a garbled authority', spoil: (put) => put('caFile', garbled(`${ca.pem}\n${otherCa.pem}`)) },
    { name: 'a file that is away', spoil: (_put, files) => rmSync(files.certFile) },
  ];
  for (const { name, spoil } of rows) {
    await t.test(name, async (t) => {
      const { put, files, watch, warnings } = watched(t);
      const changes: string[] = [];
      watch.follow((material) => changes.push(material.cert.toString()));
      spoil(put, files);
      await until('it has looked and complained', () => warnings.length > 0);
      t.equal(watch.current().cert.toString(), first.pem);
      t.equal(watch.current().ca.toString(), ca.pem);
      t.strictSame(changes, []);
      put('keyFile', second.keyPem);
      put('certFile', second.pem);
      put('caFile', `${ca.pem}\n${otherCa.pem}`);
      await until('the whole is taken', () => watch.current().cert.toString() === second.pem);
      await until('all of it', () => watch.current().ca.length > ca.pem.length + 100);
      t.ok(changes.includes(second.pem));
    });
  }
});

t.test('a follower that throws does not keep new certificates from the others, and gets them again', async (t) => {
  const { put, watch, warnings } = watched(t);
  const taken: string[] = [];
  let failures = 0;
  watch.follow(() => {
    failures += 1;
    if (failures < 3) throw new Error('the server takes no certificate now');
    taken.push('first');
  });
  watch.follow(({ cert }) => taken.push(cert.toString() === second.pem ? 'second' : 'old'));
  put('keyFile', second.keyPem);
  put('certFile', second.pem);
  await until('both have it', () => taken.length === 2);
  t.strictSame(taken, ['second', 'first']);
  t.equal(warnings.filter((line) => line.includes('takes no certificate')).length, 1, 'one warning for two failures');
  put('keyFile', first.keyPem);
  put('certFile', first.pem);
  await until('both have the next', () => taken.length === 4);
});

t.test('complains once about the same thing', async (t) => {
  const { put, watch, warnings } = watched(t);
  put('keyFile', second.keyPem);
  await until('it has complained', () => warnings.length > 0);
  put('certFile', second.pem);
  await until('it has looked again', () => watch.current().cert.toString() === second.pem);
  t.equal(warnings.length, 1);
});

t.test('what is not usable at the start is an error', async (t) => {
  const { files, put } = watched(t);
  put('keyFile', second.keyPem);
  t.throws(() => watchTls(files), { message: /not that of the certificate/ });
  rmSync(files.caFile);
  t.throws(() => watchTls(files), { code: 'ENOENT' });
});

t.test('a listener that has stopped gets no more changes', async (t) => {
  const { put, watch } = watched(t);
  let heard = 0;
  const unfollow = watch.follow(() => {
    heard += 1;
  });
  put('caFile', `${ca.pem}\n${otherCa.pem}`);
  await until('it was heard', () => heard === 1);
  unfollow();
  put('caFile', otherCa.pem);
  await until('it was taken', () => watch.current().ca.toString() === otherCa.pem);
  t.equal(heard, 1);
});

t.test('the metric counts down to the end of the certificate in use', async (t) => {
  const notAfter = new Date(Date.now() + 3_600_000);
  const request = workloadRequest(ca, 'spiffe://armature.local/service/orders');
  const { watch } = watched(t, await issueCertificate({ ...request, notAfter }));
  const registry = createRegistry('orders');
  certificateGauge(registry, watch);
  const text = await registry.getSingleMetricAsString('armature_certificate_expiry_seconds');
  const seconds = Number(text.split(' ').at(-1));
  t.ok(seconds > 3_000 && seconds <= 3_600, text);
});

t.test('certificates in a text', async (t) => {
  t.equal(certificatesIn(`# a comment\n${ca.pem}\n\n${otherCa.pem}`).length, 2);
  for (const text of [
    '',
    'nothing',
    first.keyPem,
    `${ca.pem}\n${first.keyPem}`,
    `${ca.pem}\n-----BEGIN CERTIFICATE-----`,
  ]) {
    t.throws(() => certificatesIn(text), text.slice(-30));
  }
});

/** Changes one character deep inside the last certificate; the length stays the same. */
function garbled(pem: string): string {
  const at = pem.length - 200;
  return `${pem.slice(0, at)}-${pem.slice(at + 1)}`;
}
