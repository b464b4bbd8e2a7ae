import type { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { connect } from 'node:tls';
import { pino } from 'pino';
import t from 'tap';
import { issueCertificate } from '../../../scripts/devmesh/certificates.ts';
import { type TlsWatch, watchTls } from '../credentials/tls-files.ts';
import { RpcError } from '../errors/errors.ts';
import { createLogger } from '../telemetry/log.ts';
import { until } from '../testing/policy.ts';
import { HttpError } from './http-error.ts';
import { type HttpsServerOptions, mount, route, serveHttps } from './https-server.ts';
import { contentPolicy } from './security-headers.ts';

const folder = mkdtempSync(join(tmpdir(), 'armature-https-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];

/** The files as a service watches them; no client has a certificate here, so the trusted authorities do not matter. */
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
    routes: (app) => void app.get('/', async () => 'here'),
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
    routes: (app) =>
      void app.get('/', (_request, reply) => {
        finish = () => void reply.send('done');
      }),
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

/** A server of these routes, and a function that sends it raw bytes and returns its whole response. */
async function serving(
  t: { teardown(undo: () => unknown): unknown },
  options: Pick<HttpsServerOptions, 'routes'> & Partial<HttpsServerOptions>,
) {
  await write('serving');
  const lines = new PassThrough().setEncoding('utf8');
  const server = await serveHttps({
    address: '127.0.0.1:0',
    tls: watched(t),
    log: pino({ level: 'error' }, lines),
    ...options,
  });
  t.teardown(() => server.close());
  const port = Number(server.address.split(':')[1]);
  const send = (bytes: string) =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => socket.write(bytes));
      let received = '';
      socket.on('data', (chunk) => {
        received += chunk.toString();
      });
      socket.on('end', () => resolve(received));
      socket.on('error', reject);
    });
  const ask = (line: string, headers: readonly string[] = [], body = '') =>
    send([`${line} HTTP/1.1`, 'Host: localhost', 'Connection: close', ...headers, '', body].join('\r\n'));
  return { server, port, send, ask, logged: () => String(lines.read() ?? '') };
}

const fails = (error: Error) => async () => {
  throw error;
};

t.test('what is refused, and what the client learns of it', async (t) => {
  const { ask, logged } = await serving(t, {
    limits: { bodyBytesMax: 100 },
    routes(app) {
      app.addContentTypeParser('text/plain', { parseAs: 'string' }, (_request, body, done) => done(null, body));
      route(app, '/paper', { GET: async () => 'read', POST: async ({ body }) => body });
      route(app, '/broken', { GET: fails(new Error('the table secret_plans is gone')) });
      route(app, '/late', { GET: fails(new RpcError('DEADLINE_EXCEEDED', 'ANY', '10.0.0.7 took too long')) });
      route(app, '/busy', { GET: fails(new RpcError('UNAVAILABLE', 'ANY', 'the database at 10.0.0.7 is away')) });
      route(app, '/denied', { GET: fails(new HttpError(403, 'form_invalid')) });
    },
  });
  const text = ['Content-Type: text/plain'];
  const chunked = [...text, 'Transfer-Encoding: chunked'];
  for (const row of [
    { name: 'a method that is served', line: 'GET /paper', expect: /^HTTP\/1\.1 200 .*read$/s },
    { name: 'a body', line: 'POST /paper', headers: [...text, 'Content-Length: 4'], body: 'word', expect: /word$/ },
    {
      name: 'a target that names a host',
      line: 'GET https://elsewhere.example/paper?page=2',
      expect: /^HTTP\/1\.1 200 .*read$/s,
    },
    {
      name: 'another method',
      line: 'DELETE /paper',
      expect: /^HTTP\/1\.1 405 .*\r\nallow: GET, POST\r\n.*\{"error":\{"code":"method_not_allowed"\}\}$/is,
    },
    { name: 'another path', line: 'GET /', expect: /^HTTP\/1\.1 404 .*"code":"not_found"/s },
    { name: 'a path that cannot be decoded', line: 'GET /%zz', expect: /^HTTP\/1\.1 400 .*"code":"request_invalid"/s },
    {
      name: 'a body of another type',
      line: 'POST /paper',
      headers: ['Content-Type: text/html', 'Content-Length: 1'],
      body: 'x',
      expect: /^HTTP\/1\.1 415 .*"code":"media_type_unsupported"/s,
    },
    {
      name: 'a body that is announced too large',
      line: 'POST /paper',
      headers: [...text, 'Content-Length: 101'],
      expect: /^HTTP\/1\.1 413 .*\r\nconnection: close\r\n/is,
    },
    {
      name: 'a body that turns out too large',
      line: 'POST /paper',
      headers: chunked,
      body: `65\r\n${'x'.repeat(101)}\r\n`,
      expect: /^HTTP\/1\.1 413 .*\r\nconnection: close\r\n.*"code":"body_too_large"/is,
    },
    { name: 'what a handler refuses', line: 'GET /denied', expect: /^HTTP\/1\.1 403 .*"code":"form_invalid"/s },
    {
      name: 'a dependency that is away',
      line: 'GET /busy',
      expect: /^HTTP\/1\.1 503 .*\r\nretry-after: 2\r\n.*"code":"temporarily_unavailable"/is,
    },
    { name: 'a deadline that has passed', line: 'GET /late', expect: /^HTTP\/1\.1 503 .*\r\nretry-after: 2\r\n/is },
    { name: 'a fault', line: 'GET /broken', expect: /^HTTP\/1\.1 500 .*"code":"server_error"/s },
  ]) {
    const response = await ask(row.line, row.headers, row.body);
    t.match(response, row.expect, row.name);
    t.notMatch(response, /secret_plans|10\.0\.0\.7|FST_|at .*\.ts/, `${row.name}: nothing of the inside`);
    for (const header of [
      "content-security-policy: default-src 'none';base-uri 'none';frame-ancestors 'none'",
      'x-frame-options: DENY',
      'x-content-type-options: nosniff',
      'cache-control: no-store',
    ]) {
      // A target that is malformed is refused before any hook runs.
      if (row.line !== 'GET /%zz') t.match(response.toLowerCase(), header.toLowerCase(), `${row.name}: ${header}`);
    }
  }
  const lines = logged();
  t.match(lines, /"route":"\/broken".*"msg":"a request failed"/, 'a fault is logged');
  t.equal(lines.match(/a request failed/g)?.length, 1, 'and nothing that is the doing of clients');
});

t.test('a handler of Node’s kind takes what no route takes, under the same limits', async (t) => {
  const { ask } = await serving(t, {
    limits: { bodyBytesMax: 100 },
    errorBody: ({ code }) => ({ type: 'text/html; charset=utf-8', body: `<p>${code}</p>` }),
    contentPolicy: { 'style-src': ["'self'"] },
    routes(app) {
      const forms = contentPolicy({ 'form-action': ["'self'"] });
      route(app, '/own', {
        async GET(_request, reply) {
          forms(reply);
          return 'own';
        },
      });
      mount(app, async (request, response) => {
        if (request.url === '/fails') throw new Error('no');
        let body = '';
        for await (const chunk of request) body += chunk;
        response.end(`${request.method} ${request.url} ${body}`);
      });
    },
  });
  t.match(await ask('GET /own'), /content-security-policy: [^\r]*form-action 'self'[\s\S]*own$/i);
  t.match(await ask('PUT /a?b=c', ['Content-Type: any/thing', 'Content-Length: 2'], 'hi'), /PUT \/a\?b=c hi$/);
  t.match(await ask('GET /a'), /content-security-policy: [^\r]*style-src 'self'\r/i, 'with our headers');
  t.match(await ask('POST /a', ['Content-Length: 101']), /^HTTP\/1\.1 413 /);
  t.match(await ask('GET /fails'), /^HTTP\/1\.1 500 [\s\S]*<p>server_error<\/p>$/);
});

t.test('a connection that its client would keep ends with the response in progress', async (t) => {
  let finish = () => {};
  const { server, send } = await serving(t, {
    routes: (app) =>
      void app.get('/', (_request, reply) => {
        finish = () => void reply.send('done');
      }),
  });
  const initial = finish;
  const response = send('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await until('the request to arrive', () => finish !== initial);
  const began = performance.now();
  const closed = server.close();
  finish();
  t.match(await response, /200 OK[\s\S]*done$/);
  await closed;
  t.ok(performance.now() - began < 3_000, 'without the time that idle connections or a drain have');
});

t.test('only configured proxies say where a request comes from', async (t) => {
  const routes: HttpsServerOptions['routes'] = (app) => void app.get('/', async ({ ip }) => `from ${ip};`);
  const ask = (forwarded: string) =>
    `GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: ${forwarded}\r\nConnection: close\r\n\r\n`;
  const open = await serving(t, { routes });
  t.match(await open.send(ask('192.0.2.7')), 'from 127.0.0.1;');
  const behind = await serving(t, { routes, trustedProxies: ['127.0.0.0/8', '10.0.0.1'] });
  t.match(await behind.send(ask('192.0.2.7')), 'from 192.0.2.7;');
  t.match(await behind.send(ask('203.0.113.1, 192.0.2.7')), 'from 192.0.2.7;', 'what a client invents is not believed');
  t.match(await behind.send(ask('203.0.113.1, 192.0.2.7, 10.0.0.1')), 'from 192.0.2.7;', 'two proxies');
  const elsewhere = await serving(t, { routes, trustedProxies: ['10.0.0.1'] });
  t.match(await elsewhere.send(ask('192.0.2.7')), 'from 127.0.0.1;', 'a client that is no proxy');
});

t.test('connections beyond the limit are not served', async (t) => {
  const { port, ask } = await serving(t, {
    limits: { connectionsMax: 1 },
    routes: (app) => void app.get('/', async () => 'here'),
  });
  const first = connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
  t.teardown(() => first.destroy());
  await new Promise((resolve) => first.once('secureConnect', resolve));
  t.equal(await ask('GET /').catch(() => ''), '', 'the second has no response');
  first.destroy();
  await until('the place to be free', async () => /here$/.test(await ask('GET /').catch(() => '')));
});
