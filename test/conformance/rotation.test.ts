// Rotates certificates and then their authority under load; no call may fail.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { splitAddress } from '@armature/runtime/config';
import type { CallContext } from '@armature/runtime/context';
import type { TlsFiles } from '@armature/runtime/credentials';
import { openDatabase } from '@armature/runtime/db';
import { RpcError } from '@armature/runtime/errors';
import { createRegistry } from '@armature/runtime/telemetry';
import { getChannelzHandlers } from '@grpc/grpc-js/build/src/channelz.js';
import { pino } from 'pino';
import t from 'tap';
import { retireAuthority, startRotation, switchAuthority } from '../../scripts/devmesh/ca-rotation.ts';
import {
  certificateFiles,
  ensureCertificates,
  type Issued,
  issueCertificate,
  readCa,
  saveCertificate,
  workloadIds,
  workloadRequest,
} from '../../scripts/devmesh/certificates.ts';
import { openState } from '../../scripts/devmesh/state.ts';
import { createDatabase } from '../support/infra.ts';
import { HopContract, hopClient, type Note, startHop } from './hops.ts';
import { openWire } from './wire.ts';

t.setTimeout(180_000);

const callsPerSecond = 200;
const names = ['orders', 'inventory', 'developer'];

const state = openState(t.testdir());
await ensureCertificates(state);
const filesOf = (name: string): TlsFiles => {
  const { cert, key } = certificateFiles(state, name);
  return { certFile: cert, keyFile: key, caFile: certificateFiles(state, 'ca').cert };
};
const pemOf = ({ pem, keyPem }: Issued) => ({ cert: pem, key: keyPem });

const database = await createDatabase(t, 'hops');
const db = await openDatabase({ url: database.url, log: pino({ level: 'silent' }), registry: createRegistry('hops') });
t.teardown(() => db.close());

/** Certificates are tested here, not the speed of the machine, so the deadline is long. */
const deadline = { defaultMs: 30_000, maxMs: 30_000 };
const { ask, watch } = HopContract.methods;
const longDeadlines = { ...HopContract, methods: { ask: { ...ask, deadline }, watch: { ...watch, deadline } } };

/** Two services in a row, each with certificates in files, and a caller with its own. */
const far = await startHop(
  t,
  'inventory',
  db,
  { ask: async ({ text }) => ({ text: `${text}!` }), watch: counting },
  filesOf('inventory'),
  longDeadlines,
);
const onward = await hopClient(t, far, 'inventory', 'orders', filesOf('orders'), longDeadlines);
const near = await startHop(
  t,
  'orders',
  db,
  { ask: (message, call) => onward.ask(message, { parent: call }), watch: counting },
  filesOf('orders'),
  longDeadlines,
);
const client = await hopClient(t, near, 'orders', 'developer', filesOf('developer'), longDeadlines);

async function* counting(message: Note, call: CallContext<Note>): AsyncGenerator<Note> {
  for (let count = 1; !call.signal.aborted; count += 1) {
    yield { text: `${message.text}${count}` };
    await sleep(50);
  }
}

/** Calls at a steady rate through both hops, and opens one stream after the other, until it is stopped. */
function load() {
  const failures: string[] = [];
  const counts = { sent: 0, responses: 0, streams: 0 };
  const open = new Set<Promise<void>>();
  const note = (error: unknown) =>
    failures.push(error instanceof RpcError ? `${error.code} ${error.message}` : String(error));
  const one = async () => {
    const text = `${counts.sent++}`;
    try {
      const response = await client.ask({ text });
      if (response.text !== `${text}!`) failures.push(`${text} got the response ${response.text}`);
      counts.responses += 1;
    } catch (error) {
      note(error);
    }
  };
  let running = true;
  const since = performance.now();
  const calling = (async () => {
    while (running) {
      const due = ((performance.now() - since) / 1000) * callsPerSecond;
      // After a pause of this process the missing calls follow gradually: a hop accepts at most a hundred concurrent
      // calls.
      while (counts.sent < due && open.size < 50) {
        const call = one().finally(() => open.delete(call));
        open.add(call);
      }
      await sleep(5);
    }
    await Promise.all(open);
  })();
  const streaming = (async () => {
    while (running) {
      let seen = 0;
      try {
        for await (const _ of client.watch({ text: 'x' })) if (++seen === 20) break;
        counts.streams += 1;
      } catch (error) {
        note(error);
      }
    }
  })();
  return {
    counts,
    async stop() {
      running = false;
      await Promise.all([calling, streaming]);
      return { failures, seconds: (performance.now() - since) / 1000 };
    },
  };
}

/** The certificate that a server presents to a new connection. */
function shown(address: string): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ ...splitAddress(address), rejectUnauthorized: false, ALPNProtocols: ['h2'] }, () => {
      resolve(new X509Certificate(socket.getPeerX509Certificate()!.raw));
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within the limit: ${what}`);
    await sleep(20);
  }
}

const isOnDisk = (name: string, leaf: X509Certificate) =>
  leaf.fingerprint256 === new X509Certificate(readFileSync(certificateFiles(state, name).cert)).fingerprint256;
const serversShowTheirFiles = async () =>
  isOnDisk('orders', await shown(near.address)) && isOnDisk('inventory', await shown(far.address));

/** The code of a call with this certificate. */
async function codeFor(leaf: Issued): Promise<string> {
  const wire = await openWire(near.address, { ...pemOf(leaf), ca: (await readCa(state)).pem });
  const { code, refused } = await wire.call(HopContract.methods.ask.path);
  wire.close();
  return refused ? 'refused' : code;
}

/** Channels of clients in this process, as grpc-js counts them. */
function openChannels(): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = { start_channel_id: 0, max_results: 1_000 };
    getChannelzHandlers().GetTopChannels({ request } as never, (error, response) =>
      error ? reject(error) : resolve(response?.channel?.length ?? 0),
    );
  });
}

t.test('certificates, then their authority, change under load', async (t) => {
  const before = await openChannels();
  const oldCa = await readCa(state);
  const oldLeaf = await issueCertificate(workloadRequest(oldCa, workloadIds().developer!));
  t.equal(await codeFor(oldLeaf), 'OK');
  const calls = load();
  const untilResponses = async (more: number) => {
    const target = calls.counts.responses + more;
    await until(`${more} more calls have a response`, () => calls.counts.responses >= target);
  };
  await untilResponses(200);

  await t.test('leaves, with new keys', async (t) => {
    const first = await shown(near.address);
    for (const name of names) {
      saveCertificate(state, name, await issueCertificate(workloadRequest(oldCa, workloadIds()[name]!)));
    }
    await until('servers show them', serversShowTheirFiles);
    t.not((await shown(near.address)).fingerprint256, first.fingerprint256);
    await untilResponses(600);
  });

  await t.test('the new authority is trusted beside the old one', async (t) => {
    await startRotation(state);
    await untilResponses(200);
    t.equal(await codeFor(oldLeaf), 'OK', 'the old one still counts');
  });

  await t.test('the new authority signs', async (t) => {
    await switchAuthority(state);
    await until('servers show what it has signed', serversShowTheirFiles);
    const ca = new X509Certificate((await readCa(state)).pem);
    t.ok((await shown(near.address)).verify(ca.publicKey));
    t.equal(await codeFor(oldLeaf), 'OK', 'the old one counts until it is retired');
    await untilResponses(600);
  });

  await t.test('the old authority is retired', async (t) => {
    const showing = [near, far].map(({ address }) => ({ name: address, certificate: () => shown(address) }));
    await retireAuthority(state, showing);
    await until('the old one counts no more', async () => (await codeFor(oldLeaf)) === 'refused');
    const forged = await issueCertificate(workloadRequest(oldCa, workloadIds().orders!));
    t.equal(await codeFor(forged), 'refused', 'nor does what it signs from now on');
    t.equal(
      await codeFor(await issueCertificate(workloadRequest(await readCa(state), workloadIds().developer!))),
      'OK',
    );
    await untilResponses(600);
  });

  const { failures, seconds } = await calls.stop();
  t.strictSame(failures, [], 'what has failed');
  const { sent, streams } = calls.counts;
  t.ok(sent > 2_000, `${sent} calls, ${Math.round(sent / seconds)} a second`);
  t.ok(streams > 5, `${streams} streams`);
  t.comment(`${sent} calls and ${streams} streams in ${Math.round(seconds)} s, none failed`);
  await until('no channel is left over', async () => (await openChannels()) === before);
});
