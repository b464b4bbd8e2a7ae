// A scripted access service on a real server, and a network path to it that can go silent.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import type { Decision, WatchPolicyResponse } from '@armature/proto/access/v1/access.ts';
import { AccessServiceContract } from '@armature/proto/access/v1/contract.ts';
import type { Teardown } from '../../../test/support/infra.ts';
import { workloadCertificate } from '../../../test/support/service.ts';
import { authenticate } from '../authz/authenticate.ts';
import { policyOf } from '../authz/policy.ts';
import { rpcError } from '../errors/errors.ts';
import { createClient } from '../rpc/client.ts';
import { decode } from '../rpc/decode.ts';
import { implement, peerOf, receive, startServer } from '../rpc/server.ts';
import { createLogger } from '../telemetry/log.ts';
import { sleep } from '../time/sleep.ts';

type AccessMethod = keyof (typeof AccessServiceContract)['methods'];
type Message = Partial<WatchPolicyResponse>;

export interface ScriptedAccess {
  readonly address: string;
  /** The digests in the first messages of the streams, one for each stream so far. */
  readonly streams: string[];
  /** Publishes a version: it is sent to every stream at once. */
  publish(text: string, version?: bigint): void;
  /** Sends these messages unchanged, before any later ones. */
  send(...messages: Message[]): void;
  /** While true, nothing is sent. */
  silent: boolean;
  chunkBytes: number;
  /** Recorded batches, with their caller and request id. */
  readonly recorded: { by: string | null; requestId: string; decisions: Decision[] }[];
  /** While set, recording fails. */
  refuseRecords: boolean;
  stop(): Promise<void>;
}

const signEveryMs = 100;

/**
 * The part of access's contract that services use; confirmations are more frequent than in the contract, for short
 * tests.
 */
export async function scriptedAccess(t: Teardown, address = '127.0.0.1:0'): Promise<ScriptedAccess> {
  let inForce: { version: bigint; digest: string; bytes: Buffer } | null = null;
  let woken = new AbortController();
  let workloadAt = (_peer: string): string | null => null;
  const pending: Message[] = [];
  const wake = () => {
    const before = woken;
    woken = new AbortController();
    before.abort();
  };
  const refuse = (): never => {
    throw rpcError('UNIMPLEMENTED', '', 'not part of the script');
  };
  const names = Object.keys(AccessServiceContract.methods) as AccessMethod[];
  const refusals = Object.fromEntries(names.map((name) => [name, refuse])) as unknown as Record<AccessMethod, never>;
  const script: ScriptedAccess = {
    address: '',
    streams: [],
    recorded: [],
    silent: false,
    refuseRecords: false,
    chunkBytes: 1024 * 1024,
    publish(text, version = (inForce?.version ?? 0n) + 1n) {
      inForce = { version, digest: policyOf(text).version, bytes: Buffer.from(text) };
      wake();
    },
    send(...messages) {
      pending.push(...messages);
      wake();
    },
    async stop() {
      await server.drain(100);
    },
  };
  const complete = (message: Message): WatchPolicyResponse => ({
    version: inForce?.version ?? 0n,
    digest: inForce?.digest ?? '',
    chunk: Buffer.alloc(0),
    complete: true,
    ...message,
  });
  const registration = implement(AccessServiceContract, {
    ...refusals,
    async recordDecisions({ requestId, decisions }, call) {
      if (script.refuseRecords) throw rpcError('UNAVAILABLE', '', 'records are refused by the script');
      script.recorded.push({ by: call.caller.workload, requestId, decisions });
      return {};
    },
    async *watchPolicy({ digest }, call) {
      script.streams.push(digest);
      for (let sent = digest; ; ) {
        call.signal.throwIfAborted();
        const wakes = woken.signal;
        while (pending.length > 0) yield complete(pending.shift()!);
        if (inForce && !script.silent) {
          const { bytes, ...label } = inForce;
          if (label.digest === sent) yield complete(label);
          else yield* parts(bytes, label, script.chunkBytes);
          sent = label.digest;
        }
        await sleep(signEveryMs, AbortSignal.any([wakes, call.signal]));
      }
    },
  });
  const server = await startServer({
    address,
    tls: await workloadCertificate('access'),
    trustDomain: 'armature.local',
    registrations: [registration],
    chain: (method) => [
      authenticate({ workloadOf: (call) => workloadAt(peerOf(call)), verify: refuse }),
      receive,
      decode(method),
    ],
    log: createLogger('access', 'error'),
  });
  workloadAt = server.workloadAt;
  t.teardown(() => server.drain(0));
  return Object.assign(script, { address: server.address });
}

function* parts(bytes: Buffer, label: { version: bigint; digest: string }, size: number) {
  for (let at = 0; at < bytes.length; at += size) {
    yield { ...label, chunk: bytes.subarray(at, at + size), complete: at + size >= bytes.length };
  }
}

/** A client of access with the certificate of orders, new at every call. */
export async function accessClients(addresses: () => string) {
  const tls = await workloadCertificate('orders');
  return () => createClient(AccessServiceContract, { addresses: [addresses()], tls, expectWorkload: 'service:access' });
}

export interface Network {
  readonly address: string;
  /** Open connections go silent: they pass no data and no error. New ones work. */
  freeze(): void;
  /** Whether new connections are refused. */
  down: boolean;
}

/** A network path between a client and `address`. */
export async function network(t: Teardown, address: string): Promise<Network> {
  const [host, port] = address.split(':') as [string, string];
  const open = new Set<net.Socket>();
  const server = net.createServer((near) => {
    if (state.down) return void near.destroy();
    const far = net.connect(Number(port), host);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one);
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  const state = {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    down: false,
    freeze() {
      for (const socket of open) {
        socket.unpipe();
        socket.pause();
      }
    },
  };
  return state;
}

/**
 * Waits until the condition is true; fails the test's promise after 20 s. Returns how long it took, in milliseconds.
 */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<number> {
  const since = performance.now();
  while (!(await holds())) {
    if (performance.now() - since > 20_000) throw new Error(`waited 20 s in vain until ${what}`);
    await sleep(1);
  }
  return performance.now() - since;
}
