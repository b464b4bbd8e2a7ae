import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type Issued, issueCertificate, workloadRequest } from '../../../scripts/devmesh/certificates.ts';
import type { TlsMaterial, TlsWatch } from '../credentials/tls-files.ts';
import { type Channels, openChannels } from './channel.ts';

const ca = await issueCertificate({ isCa: true, commonName: 'one' });
const id = (name: string) => `spiffe://armature.local/service/${name}`;
const materialOf = ({ pem, keyPem, certificate }: Issued, trusted = ca): TlsMaterial => ({
  cert: Buffer.from(pem),
  key: Buffer.from(keyPem),
  ca: Buffer.from(trusted.pem),
  expiresAt: certificate.notAfter,
});
const orders = await issueCertificate(workloadRequest(ca, id('orders')));
const leaves = await Promise.all([1, 2, 3].map(() => issueCertificate(workloadRequest(ca, id('payments')))));

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Certificates that the test replaces. */
function turnable(first: TlsMaterial) {
  const followers = new Set<(material: TlsMaterial) => void>();
  let current = first;
  const watch: TlsWatch = {
    current: () => current,
    follow(changed) {
      followers.add(changed);
      return () => void followers.delete(changed);
    },
    stop: () => undefined,
  };
  const turn = (material: TlsMaterial) => {
    current = material;
    for (const changed of followers) changed(material);
  };
  return { watch, turn, followers };
}

const bytes = (buffer: Buffer): Buffer => buffer;
const path = '/test/Ask';

/** A server that responds with the serial number of the caller's certificate, at once or when the test says so. */
async function startEcho(t: Test) {
  const waiting: (() => void)[] = [];
  const server = new Server();
  const definition = { path, requestStream: false, responseStream: false } as const;
  const codecs = {
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  };
  server.addService(
    { ask: { ...definition, ...codecs } },
    {
      ask(call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) {
        const peer = call.getAuthContext().sslPeerCertificate;
        const respond = () => done(null, Buffer.from(peer?.serialNumber ?? 'no certificate'));
        if (call.request.toString() === 'later') waiting.push(respond);
        else respond();
      },
    },
  );
  const pair = { private_key: Buffer.from(orders.keyPem), cert_chain: Buffer.from(orders.pem) };
  const secure = ServerCredentials.createSsl(Buffer.from(ca.pem), [pair], true);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', secure, (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  t.teardown(() => server.forceShutdown());
  return { target: `ipv4:127.0.0.1:${port}`, waiting };
}

function ask(channels: Channels, how = 'now'): Promise<string> {
  const generation = channels.enter();
  return new Promise((resolve, reject) => {
    generation.channel.makeUnaryRequest(
      path,
      bytes,
      bytes,
      Buffer.from(how),
      { deadline: Date.now() + 20_000 },
      (error, reply) => {
        channels.leave(generation);
        if (error) reject(error);
        else resolve(reply!.toString());
      },
    );
  });
}

const serialOf = ({ certificate }: Issued) => certificate.serialNumber.toUpperCase();
const options = { 'grpc.ssl_target_name_override': 'localhost' };
const side = { expectWorkload: 'service:orders', trustDomain: 'armature.local', options };

t.test('calls move to the new certificate, and those in flight end on the old one', async (t) => {
  const { target, waiting } = await startEcho(t);
  const { watch, turn } = turnable(materialOf(leaves[0]!));
  const channels = openChannels({ target, tls: watch, ...side });
  t.teardown(() => channels.close());
  t.equal(await ask(channels), serialOf(leaves[0]!));
  const slow = ask(channels, 'later');
  await until('the slow call has arrived', () => waiting.length === 1);
  turn(materialOf(leaves[1]!));
  const served: string[] = [];
  for (let newest = false; !newest; newest = served.at(-1) === serialOf(leaves[1]!)) served.push(await ask(channels));
  t.ok(served.every((serial) => serial === serialOf(leaves[0]!) || serial === serialOf(leaves[1]!)));
  t.equal(channels.open(), 2, 'the old channel waits for its last call');
  waiting[0]!();
  t.equal(await slow, serialOf(leaves[0]!));
  t.equal(channels.open(), 1, 'and goes with it');
  t.equal(await ask(channels), serialOf(leaves[1]!));
});

t.test('many changes leave one channel', async (t) => {
  const { target } = await startEcho(t);
  const { watch, turn, followers } = turnable(materialOf(leaves[0]!));
  const channels = openChannels({ target, tls: watch, ...side });
  for (let round = 0; round < 30; round += 1) {
    turn(materialOf(leaves[round % 3]!));
    if (round % 3 === 0) await ask(channels);
  }
  await until('one channel is left', () => channels.open() === 1);
  t.equal(await ask(channels), serialOf(leaves[29 % 3]!), 'the last one');
  turn(materialOf(leaves[0]!));
  channels.close();
  t.equal(channels.open(), 0, 'closing ends the one that is coming, too');
  t.equal(followers.size, 0);
});

t.test(
  'a new channel that cannot connect takes over after a while, for the old certificate counts no more',
  async (t) => {
    const { target } = await startEcho(t);
    const { watch, turn } = turnable(materialOf(leaves[0]!));
    const channels = openChannels({ target, tls: watch, ...side });
    t.teardown(() => channels.close());
    t.equal(await ask(channels), serialOf(leaves[0]!));
    const stranger = await issueCertificate({ isCa: true, commonName: 'stranger' });
    turn(materialOf(leaves[1]!, stranger));
    t.equal(await ask(channels), serialOf(leaves[0]!), 'the old one serves while the new one tries');
    await until('it has taken over', () => channels.open() === 1);
    await t.rejects(ask(channels), { code: 14 });
    turn(materialOf(leaves[2]!));
    await until(
      'a better one has come',
      () => channels.open() === 1 && watch.current().cert.toString() === leaves[2]!.pem,
    );
    t.equal(await ask(channels), serialOf(leaves[2]!));
  },
);
