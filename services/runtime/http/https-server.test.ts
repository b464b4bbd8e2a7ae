import type { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import t from 'tap';
import { issueCertificate } from '../../../scripts/devmesh/certificates.ts';
import { type TlsWatch, watchTls } from '../credentials/tls-files.ts';
import { createLogger } from '../telemetry/log.ts';
import { until } from '../testing/policy.ts';
import { serveHttps } from './https-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'armature-https-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];

/** The files as a service watches them; nobody shows this server a certificate, so whom it trusts does not matter. */
function watched(t: { teardown(undo: () => void): unknown }): TlsWatch {
  const watch = watchTls({ certFile, keyFile, caFile: certFile }, { log: createLogger('test', 'error'), pollMs: 50 });
  t.teardown(() => watch.stop());
  return watch;
}

async function write(commonName: string): Promise<void> {
  const { pem, keyPem } = await issueCertificate({ commonName, dns: ['localhost'] });
  writeFileSync(keyFile, keyPem);
  writeFileSync(certFile, pem);
}

const shown = (port: number, options: { maxVersion?: 'TLSv1.1' } = {}) =>
  new Promise<string>((resolve, reject) => {
    const socket = connect(
      { port, host: '127.0.0.1', servername: 'localhost', rejectUnauthorized: false, ...options },
      () => {
        const certificate = socket.getPeerX509Certificate() as X509Certificate;
        socket.destroy();
        resolve(certificate.subject);
      },
    );
    socket.on('error', reject);
  });

t.test('a certificate that is replaced is served without a restart, and half a pair is not', async (t) => {
  await write('first');
  const server = await serveHttps({
    address: '127.0.0.1:0',
    tls: watched(t),
    answer: (_request, response) => response.end('here'),
    log: createLogger('test', 'error'),
  });
  t.teardown(() => server.close());
  const port = Number(server.address.split(':')[1]);
  t.equal(await shown(port), 'CN=first');
  await t.rejects(shown(port, { maxVersion: 'TLSv1.1' }), 'old versions of TLS are not spoken');
  const other = await issueCertificate({ commonName: 'half', dns: ['localhost'] });
  writeFileSync(certFile, other.pem);
  for (let check = 0; check < 5; check += 1) t.equal(await shown(port), 'CN=first');
  await write('second');
  await until('the new certificate', async () => (await shown(port)) === 'CN=second');
});

t.test('closing lets requests in progress finish', async (t) => {
  await write('closing');
  let finish = () => {};
  const server = await serveHttps({
    address: '127.0.0.1:0',
    tls: watched(t),
    answer: (_request, response) => {
      finish = () => response.end('done');
    },
    log: createLogger('test', 'error'),
  });
  const port = Number(server.address.split(':')[1]);
  const text = new Promise<string>((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () =>
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    );
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk.toString();
    });
    socket.on('end', () => resolve(received));
    socket.on('error', reject);
  });
  const initial = finish;
  await until('the request to arrive', () => finish !== initial);
  const closed = server.close();
  finish();
  t.match(await text, /200 OK[\s\S]*done/);
  await closed;
});
