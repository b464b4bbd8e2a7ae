// Sends every request several times while the servers are killed. Each must have one effect and one response.
import { randomUUID } from 'node:crypto';
import type { Teardown } from '../../support/infra.ts';
import { type Random, seeded } from '../../support/random.ts';
import { chaos } from './chaos.ts';
import { type KeyRequest, type Kinds, openKinds, shares } from './key-requests.ts';
import { effectsContradicting, type KeyResponses, openKeyResponses } from './key-responses.ts';
import { startCrashMesh } from './mesh.ts';
import { allReady, type CrashReport, settings, sums, waitUntilClean } from './run.ts';

export interface KeysOptions {
  keys: number;
  /** How often each is sent. */
  sends: number;
  seed: number;
  /** Concurrent requests to each service. */
  senders?: number;
  /** Maximum time during which processes are killed. Sends that are left are made afterwards. */
  stormMs: number;
  /** Factor on the lifetime of processes, compared with `make crash`. */
  calm?: number;
  say?: (line: string) => void;
}

/** Content of .run/keys.json. */
export interface KeysReport extends Pick<CrashReport, 'kills' | 'recoveryMs' | 'cleanAfterMs' | 'violations'> {
  seed: number;
  keys: number;
  sends: number;
  /** Sends by kind and response, as 'reserve what is scarce STOCK_INSUFFICIENT'. */
  responses: Record<string, number>;
  /** Sends with unknown outcome that were repeated, by kind and code. */
  retries: Record<string, number>;
  /** Keys that were handled by more than one process of a service. */
  acrossKills: number;
  /** From the first send to the last response. */
  seconds: number;
  sendsPerSecond: number;
}

/** Crash points of this run: around commits and during payments. Other services are killed at random moments. */
const points = [
  ...['reserve-stock', 'place-order'].flatMap((work) => [`${work}.before-commit`, `${work}.committed`]),
  ...['before-acquirer', 'after-acquirer', 'before-ledger-commit', 'after-ledger-commit'].map((at) => `payments.${at}`),
  ...['before-publish', 'published', 'confirmed', 'marked'].map((at) => `relay.${at}`),
];
/** How often points may be passed before they kill, so that processes handle some requests first. */
const passes = { 'reserve-stock.': 400, 'payments.': 150, 'place-order.': 40, 'relay.': 200 };

/** Share of sends that are made after all processes were killed at once and restarted. */
const afterwardsShare = 0.03;
/** The sends of a key that follow its first two come within this share of all sends. */
const nearShare = 0.2;

/** Sends keys many times while processes are killed, restarts the shop, and counts the effects of each key. */
export async function repeatKeys(t: Teardown, options: KeysOptions): Promise<KeysReport> {
  const { keys, sends, seed, senders = 48, calm = 1, stormMs, say = () => undefined } = options;
  const random = seeded(seed);
  // No request needs the broker, and its start takes both cores for ten seconds: it is killed only with everything
  // else.
  const storm = chaos({ random, durationMs: 100_000, points, passes, servers: ['database'], calm });
  const mesh = await startCrashMesh(t, storm, (name) => ({ env: settings[name] }));
  await allReady(mesh);
  const kinds = await openKinds(t, mesh, random, keys);
  const requests = Array.from({ length: keys }, () => newRequest(kinds, random));
  const book = openKeyResponses(mesh, kinds, random);
  const plan = order(keys, sends, random).map((index) => requests[index]!);
  const underFire = Math.ceil(plan.length * (1 - afterwardsShare));
  say(`everything runs; ${keys} keys, ${sends} times each, ${senders} at once to each service, seed ${seed}`);
  const progress = setInterval(() => say(`${book.received()} responses, ${storm.kills.length} kills`), 10_000);
  const start = performance.now();
  const sent = new AbortController();
  const fire = async () => {
    await storm.killUntil(mesh, AbortSignal.any([sent.signal, AbortSignal.timeout(stormMs)]));
    say('restart: kills all processes at once and starts them');
    await storm.restartAll(mesh);
  };
  await Promise.all([fire(), sendAll(plan.slice(0, underFire), senders, kinds, book).finally(() => sent.abort())]);
  await sendAll(plan.slice(underFire), senders, kinds, book);
  const respondedAt = performance.now();
  const seconds = (respondedAt - start) / 1_000;
  clearInterval(progress);
  const { cleanAfterMs, violations } = await waitUntilClean(mesh, respondedAt, async (shopData) => [
    ...book.problems,
    ...(await effectsContradicting(shopData, kinds, requests, book)),
  ]);
  await mesh.stop();
  const { kills, recoveryMs } = sums(storm.kills, points);
  const { responses, retries } = book.counts();
  const sendsPerSecond = Math.round(plan.length / seconds);
  const acrossKills = requests.filter(({ id }) => (book.of(id)?.processes.size ?? 0) > 1).length;
  return {
    ...{ seed, keys, sends, responses, retries, acrossKills, seconds: Math.round(seconds), sendsPerSecond },
    ...{ kills, recoveryMs, cleanAfterMs, violations },
  };
}

function newRequest(kinds: Kinds, random: Random): KeyRequest {
  const id = randomUUID();
  const kind = random.weighted(shares);
  return { id, kind, ...kinds[kind].make(id) };
}

/**
 * Returns the order in which keys are sent, each `sends` times: the first two sends of a key together, the others soon
 * after, but the last at any time up to the end.
 */
export function order(keys: number, sends: number, random: Random): number[] {
  const all = keys * sends;
  const due = Array.from({ length: keys }, (_, key) => {
    const first = key * sends;
    return Array.from({ length: sends }, (_, send) => {
      const within = send === sends - 1 ? all - first : all * nearShare;
      return { key, at: send < 2 ? first : first + random.next() * Math.min(within, all - first) };
    });
  });
  return due
    .flat()
    .sort((one, other) => one.at - other.at)
    .map(({ key }) => key);
}

/** Limits concurrent requests per service: requests that wait for one service must not block those of another. */
async function sendAll(plan: readonly KeyRequest[], senders: number, kinds: Kinds, book: KeyResponses): Promise<void> {
  const sender = async (requests: KeyRequest[]) => {
    for (let request = requests.pop(); request; request = requests.pop()) await book.send(request);
  };
  const services = Map.groupBy(plan.toReversed(), ({ kind }) => kinds[kind].service);
  await Promise.all(
    [...services.values()].flatMap((requests) => Array.from({ length: senders }, () => sender(requests))),
  );
}
