import { randomInt } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Caller } from '../context/call-context.ts';
import { lastGoodCopy } from '../credentials/last-good-copy.ts';
import { RpcError } from '../errors/errors.ts';
import { createLogger } from '../telemetry/log.ts';
import { createRegistry, exposition, type Registry } from '../telemetry/metrics.ts';
import { accessClients, network, scriptedAccess, until } from '../testing/policy.ts';
import { policyOf } from './policy.ts';
import { type FollowerOptions, followPolicy } from './policy-follower.ts';
import { reportVersion } from './policy-metrics.ts';

const log = createLogger('test', 'fatal');
const edge = 'p, workload:edge, orders.refund, on-behalf';
const withBo = `${edge}\np, role:staff, orders.refund, any\ng, user:bo, role:staff\n`;
const withoutBo = `${edge}\np, role:staff, orders.refund, any\n`;
const bo: Caller = { workload: 'workload:edge', user: { kind: 'user', subject: 'bo', token: '', scope: 'all' } };

type Changes = Partial<Pick<FollowerOptions, 'connect' | 'ageMaxMs' | 'messageTimeoutMs' | 'now'>>;

async function setUp(t: Test, changes: Changes = {}) {
  const access = await scriptedAccess(t);
  const wire = await network(t, access.address);
  const file = join(t.testdir({}), 'copies', 'policy');
  const connect = await accessClients(() => wire.address);
  const start = async (more: Changes = {}) => {
    const registry = createRegistry('test');
    const source = await followPolicy({
      workload: 'service:orders',
      connect,
      copy: lastGoodCopy(file, log),
      ageMaxMs: 300_000,
      messageTimeoutMs: 10_000,
      log,
      registry,
      ...changes,
      ...more,
    });
    reportVersion(registry, source);
    t.teardown(() => source.stop());
    const allows = () => source.current()?.decide(bo, 'orders.refund').allowed ?? null;
    return { ...source, registry, allows };
  };
  return { access, wire, file, start };
}

async function metric(registry: Registry, line: string): Promise<string | undefined> {
  const page = await exposition(registry);
  return page.split('\n').find((one) => one.startsWith(line));
}

t.test('says why there is no policy', async (t) => {
  const { access, wire, start } = await setUp(t);
  wire.down = true;
  let now = 0;
  const follower = await start({ now: () => now });
  await until('it has failed', () => follower.problem() !== '');
  t.match(follower.problem(), /connect|UNAVAILABLE|ECONN/i);
  wire.down = false;
  access.publish(withBo);
  await until('the policy is there', () => follower.allows() === true);
  t.equal(follower.problem(), 'access has not confirmed it for 0 s');
  now = 301_000;
  t.equal(follower.current(), null);
  t.match(follower.problem(), /^access has not confirmed it for 301 s/);

  const denied = (): AsyncIterable<never> => {
    throw new RpcError('PERMISSION_DENIED', 'PERMISSION_DENIED', 'access.watch is not allowed');
  };
  const refused = await start({ connect: () => ({ watchPolicy: denied, close: () => {} }), now: () => 1e9 });
  t.equal(refused.current(), null, 'its copy is too old');
  await until('it was refused', () => refused.problem() !== '');
  t.match(
    refused.problem(),
    'the policy in force has no rows for service:orders; armature access apply adds them (access.watch is not allowed)',
  );
});

t.test('follows what access says', async (t) => {
  const { access, start } = await setUp(t);
  const follower = await start();
  t.equal(follower.current(), null, 'nothing is trusted before it came');
  t.match(await metric(follower.registry, 'armature_policy_age_seconds'), /\+Inf$/);
  access.publish(withBo);
  await until('the policy is there', () => follower.allows() === true);
  const taken: number[] = [];
  for (let round = 0; round < 20; round++) {
    access.publish(withoutBo);
    taken.push(await until('the revocation counts', () => follower.allows() === false));
    access.publish(withBo);
    await until('the grant counts', () => follower.allows() === true);
  }
  taken.sort((a, b) => a - b);
  t.comment(`revocation to denial: median ${taken[10]!.toFixed(1)} ms, longest ${taken[19]!.toFixed(1)} ms`);
  t.ok(
    taken.every((ms) => ms < 5_000),
    'within 5 s each time',
  );
  const { version } = policyOf(withBo);
  t.match(await metric(follower.registry, 'armature_policy_version'), new RegExp(`version="${version}".* 1$`));
  t.match(await metric(follower.registry, 'armature_policy_updates_total{outcome="applied"'), / 41$/);
  const age = Number((await metric(follower.registry, 'armature_policy_age_seconds'))?.split(' ').at(-1));
  t.ok(age < 10, `confirmed ${age} s ago`);
  t.strictSame(access.streams, [''], 'all by one stream');
});

t.test('a text in many parts', async (t) => {
  const { access, start } = await setUp(t);
  const rows = Array.from({ length: 60_000 }, (_, index) => `g, user:u${index}, role:staff`);
  const text = `${withBo}${rows.join('\n')}\nd, user:bo`;
  access.chunkBytes = 100_000;
  access.publish(text);
  const follower = await start();
  await until('the policy is there', () => follower.current() !== null);
  t.equal(follower.current()!.version, policyOf(text).version);
  t.equal(follower.allows(), false, 'its last row counts');
});

t.test('refuses what is wrong, keeps the last good one, and takes the next', async (t) => {
  const digest = 'f'.repeat(16);
  const chunk = Buffer.from(withoutBo);
  const faulty = 'p, role:a\n';
  for (const row of [
    {
      name: 'a text with a fault in a row',
      send: [{ version: 9n, digest: policyOf(withBo).version, chunk: Buffer.from(faulty) }],
      refused: 1,
    },
    { name: 'an empty policy', send: [{ version: 9n, digest, chunk: Buffer.from('# nothing\n') }], refused: 1 },
    { name: 'bytes that are no text', send: [{ version: 9n, digest, chunk: Buffer.from([0x70, 0xff]) }], refused: 1 },
    { name: 'the digest of another text', send: [{ version: 9n, digest, chunk }], refused: 1, anew: true },
    {
      name: 'a text cut off between two rows',
      send: [{ version: 9n, digest: policyOf(withoutBo).version, chunk: Buffer.from(`${edge}\n`) }],
      refused: 1,
      anew: true,
    },
    { name: 'an empty part', send: [{ version: 9n, digest, complete: false }], anew: true },
    {
      name: 'a part that is too long',
      send: [{ version: 9n, digest, chunk: Buffer.alloc(1024 * 1024 + 1, 0x20), complete: false }],
      anew: true,
    },
    {
      name: 'a text that is too long',
      send: Array.from({ length: 17 }, () => ({
        version: 9n,
        digest,
        chunk: Buffer.alloc(1024 * 1024, 0x20),
        complete: false,
      })),
      anew: true,
    },
    { name: 'a sign of a version that was not sent', send: [{ version: 9n, digest }], anew: true },
    { name: 'an older version', send: [{ version: 1n, digest: policyOf(withoutBo).version, chunk }], older: 1 },
  ]) {
    t.test(row.name, async (t) => {
      const expects: { refused?: number; older?: number; anew?: boolean } = row;
      const { access, start } = await setUp(t);
      access.publish(withBo, 5n);
      const follower = await start();
      await until('the policy is there', () => follower.allows() === true);
      access.send(...row.send);
      const sees = async (outcome: string, times: number) =>
        (await metric(follower.registry, `armature_policy_updates_total{outcome="${outcome}"`))?.endsWith(` ${times}`);
      for (const outcome of ['refused', 'older'] as const) {
        const times = expects[outcome];
        if (times) await until(`it is ${outcome}`, async () => (await sees(outcome, times)) === true);
      }
      if (expects.anew) await until('the stream is made anew', () => access.streams.length > 1);
      t.equal(follower.allows(), true, 'the last good one stays');
      t.equal(await sees('applied', 1), true);
      access.publish(withoutBo, 10n);
      await until('the next one counts', () => follower.allows() === false);
    });
  }
});

t.test('a refused policy does not extend the trust in the current one', async (t) => {
  const clock = { ms: 0 };
  const { access, start } = await setUp(t, { now: () => clock.ms, ageMaxMs: 60_000 });
  access.publish(withBo, 5n);
  const follower = await start();
  await until('the policy is there', () => follower.allows() === true);
  const faulty = { version: 6n, digest: 'e'.repeat(16) };
  access.silent = true;
  access.send({ ...faulty, chunk: Buffer.from('p, role:a\n') });
  const refused = 'armature_policy_updates_total{outcome="refused"';
  await until('it is refused', async () => (await metric(follower.registry, refused))?.endsWith(' 1') ?? false);
  clock.ms += 60_001;
  access.send(faulty, faulty, faulty);
  // A message after the confirmations: once it was handled, so were they.
  access.send({ ...faulty, digest: 'd'.repeat(16), chunk: Buffer.from('p, role:b\n') });
  await until('all was handled', async () => (await metric(follower.registry, refused))?.endsWith(' 2') ?? false);
  t.equal(follower.allows(), null);
  t.equal(access.streams.length, 1);
});

t.test('a connection without messages is closed', async (t) => {
  const { access, wire, start } = await setUp(t, { messageTimeoutMs: 1_000 });
  access.publish(withBo);
  const follower = await start();
  await until('the policy is there', () => follower.allows() === true);
  wire.freeze();
  access.publish(withoutBo);
  const ms = await until('the revocation counts', () => follower.allows() === false);
  t.comment(`through a dead connection after ${ms.toFixed(0)} ms`);
  t.ok(ms < 5_000 + 1_000);
  t.equal(access.streams.at(-1), policyOf(withBo).version, 'the new stream names the current policy');
});

t.test('access goes and comes back', async (t) => {
  const { access, start } = await setUp(t);
  access.publish(withBo);
  const follower = await start();
  await until('the policy is there', () => follower.allows() === true);
  await access.stop();
  t.equal(follower.allows(), true, 'the current policy stays');
  const back = await scriptedAccess(t, access.address);
  back.publish(withoutBo, 2n);
  await until('the new one counts', () => follower.allows() === false);
});

t.test('a policy that access does not confirm is trusted for a limited time', async (t) => {
  const clock = { ms: 0 };
  const { access, wire, start } = await setUp(t, { now: () => clock.ms, ageMaxMs: 60_000, messageTimeoutMs: 1_000 });
  access.publish(withBo);
  const follower = await start();
  await until('the policy is there', () => follower.allows() === true);
  wire.down = true;
  wire.freeze();
  access.silent = true;
  await sleep(0);
  clock.ms += 60_000;
  t.equal(follower.allows(), true, 'to the last millisecond');
  clock.ms += 1;
  t.equal(follower.allows(), null, 'and not one longer');
  access.publish(withoutBo, 1n);
  access.silent = false;
  wire.down = false;
  await until('there is one again', () => follower.allows() === false);
  t.pass('also one that is older: the former one no longer counts');
});

t.test('starts from the copy', async (t) => {
  const { access, wire, file, start } = await setUp(t);
  access.publish(withBo, 7n);
  const first = await start();
  await until('the policy is there', () => first.allows() === true);
  await first.stop();
  wire.down = true;
  const good = readFileSync(file);
  const old = (ms: number) => utimesSync(file, (Date.now() - ms) / 1000, (Date.now() - ms) / 1000);
  t.equal(statSync(file).mode & 0o777, 0o600);
  for (const row of [
    { name: 'a fresh one', spoil: () => {}, allows: true },
    { name: 'one that was confirmed 4 min ago', spoil: () => old(240_000), allows: true },
    { name: 'one that was confirmed 6 min ago', spoil: () => old(360_000), allows: null },
    { name: 'one from the future', spoil: () => old(-60_000), allows: null },
    { name: 'one cut off between rows', spoil: () => writeFileSync(file, good.subarray(0, -22)), allows: null },
    { name: 'an empty one', spoil: () => writeFileSync(file, ''), allows: null },
    {
      name: 'one with a changed byte',
      spoil: () => writeFileSync(file, Buffer.from(good.toString().replace('user:bo', 'user:bp'))),
      allows: null,
    },
  ]) {
    t.test(row.name, async (t) => {
      writeFileSync(file, good);
      row.spoil();
      const follower = await start();
      t.equal(follower.allows(), row.allows);
      await follower.stop();
    });
  }
  t.test('and is followed on, with the digest of the copy', async (t) => {
    writeFileSync(file, good);
    old(240_000);
    const follower = await start();
    access.publish(withoutBo, 6n);
    access.publish(withBo, 8n);
    wire.down = false;
    const before = Date.now() - statSync(file).mtimeMs;
    await until('the copy is confirmed', () => Date.now() - statSync(file).mtimeMs < 100_000);
    t.ok(before > 200_000);
    t.equal(access.streams.at(-1), policyOf(withBo).version);
    t.equal(follower.allows(), true);
  });
});

t.test('a copy that cannot be kept does no harm', async (t) => {
  const { access, start, file } = await setUp(t);
  mkdirSync(`${file}.${process.pid}`, { recursive: true });
  access.publish(withBo);
  const follower = await start();
  await until('the policy is there', () => follower.allows() === true);
});

// A failing run is repeated with its seed: node services/runtime/authz/policy-follower.test.ts <seed>
t.test('200 swaps a second: every decision is one of a version that was in force', async (t) => {
  const seed = process.argv[2] === undefined ? randomInt(2 ** 31) : Number(process.argv[2]);
  t.comment(`seed ${seed}`);
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 1;
    return state / 2 ** 31;
  };
  const people = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
  const { access, start } = await setUp(t);
  /** What each version allows, computed separately from the policy, by version and in the order of publication. */
  const published = new Map<string, { at: number; allowed: ReadonlySet<string> }>();
  const publish = (at: number) => {
    const allowed = new Set(people.filter(() => random() < 0.5));
    const denied = people.filter(() => random() < 0.1);
    const rows = [...allowed].map((one) => `g, user:${one}, role:staff`);
    const text = [`# ${at}`, withoutBo, ...rows, ...denied.map((one) => `d, user:${one}`)].join('\n');
    for (const one of denied) allowed.delete(one);
    published.set(policyOf(text).version, { at, allowed });
    access.publish(text);
  };
  publish(0);
  const follower = await start();
  await until('the policy is there', () => follower.current() !== null);
  let decisions = 0;
  let newest = -1;
  const seen = new Set<number>();
  const decideAll = () => {
    for (const subject of people) {
      const caller: Caller = { workload: 'workload:edge', user: { kind: 'user', subject, token: '', scope: 'all' } };
      const decision = follower.current()!.decide(caller, 'orders.refund');
      const version = published.get(decision.policyVersion);
      if (!version) throw new Error(`decided by a version that was never published: ${decision.policyVersion}`);
      if (version.at < newest) throw new Error(`version ${version.at} came back after ${newest}`);
      if (decision.allowed !== version.allowed.has(subject)) throw new Error(`wrong by version ${version.at}`);
      newest = version.at;
      seen.add(version.at);
      decisions += 1;
    }
  };
  const end = performance.now() + 2_000;
  let swaps = 0;
  for (let due = performance.now(); performance.now() < end; ) {
    while (performance.now() < due) {
      decideAll();
      await new Promise((resolve) => setImmediate(resolve));
    }
    publish(++swaps);
    due += 5;
  }
  await until('the last version counts', () => {
    decideAll();
    return newest === swaps;
  });
  t.comment(`${swaps} swaps, ${seen.size} of them seen by ${decisions} decisions`);
  t.ok(seen.size > 20 && decisions > 1_000);
});
