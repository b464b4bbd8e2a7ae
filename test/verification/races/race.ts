/** One run of several actors, one step at a time. The explorer chooses each step. */

import { randomBytes } from 'node:crypto';
import { traceparent } from '@armature/runtime/context';
import type { Arrival } from '@armature/runtime/sync';
import { withTimeout } from '@armature/runtime/time';
import type { Connection } from 'mysql2/promise';
import type { Choose, Step } from './explorer.ts';
import { lockWaits } from './lock-waits.ts';
import type { SyncPointServer, Waiting } from './sync-point-server.ts';

/** Identifies work by the calls of one process, for work without a trace of the test. */
export interface Work {
  readonly service: string;
  readonly pid: number;
  /** Names of these calls. */
  readonly calls: RegExp;
}

/** A request from outside. Everything that it causes carries its trace, or is its `Work`. */
export interface RequestActor {
  readonly name: string;
  readonly work?: Work;
  /** Sends the request under the trace and returns how it ended. */
  send(traceparent: string): Promise<string>;
  /** Sends the request again after the race, once all actors have ended; for requests that were told to retry. */
  again?(): Promise<string>;
}

/** Work that a service starts by itself, such as a periodic job. It is blocked at a sync point until it is chosen. */
export interface BackgroundActor extends Work {
  readonly name: string;
  /** The name of the call that begins a round. `calls` matches the other calls of a round. */
  readonly root: string;
  /** Label of the first step of a round; "begin" by default. */
  readonly begins?: string;
  /** From this point on, the round has no more steps. */
  readonly until?: RegExp;
  /** Prepares a condition for the round, for example that rows are due. */
  before?: () => Promise<void>;
  /**
   * Name of the point at which other calls of a round report that they are done, for rounds that may overlap with the
   * next. Otherwise a round ends when the next one begins, or if it has made no other call.
   */
  readonly ends?: RegExp;
}

export type Actor = RequestActor | BackgroundActor;

/**
 * Which points are steps, and their labels; the first match counts. Points that match nothing are not steps. If there
 * is a `call`, the name of the call must match too.
 */
export type Points = readonly (readonly [label: string, point: RegExp, call?: RegExp])[];

const quietMs = 2;
/** Longer than a lock wait of the services with all attempts of their transactions. */
const stopWithinMs = 30_000;
const blockedWithinMs = 10_000;

interface Player {
  readonly actor: Actor;
  readonly trace: string;
  state: 'moving' | 'waiting' | 'blocked' | 'done';
  at: { label: string; arrival: Waiting } | null;
  root: string | null;
  begun: boolean;
  /** The round has made other calls than its root. */
  busy: boolean;
  /** The rest of the round has no more steps. */
  free: boolean;
  connection: number;
  response: string;
}

/** Wakes the one waiter when something has changed. */
interface Bell {
  ring(): void;
  /** Resolves on `ring`, or after some time without one. */
  heard(): Promise<void>;
}

function bell(): Bell {
  let wake = () => {};
  return {
    ring: () => wake(),
    heard: () =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, quietMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      }),
  };
}

export interface RaceParts {
  syncPoints: SyncPointServer;
  monitor: Connection;
  /** Rounds of these are blocked except as actors of a race. */
  background: readonly BackgroundActor[];
}

export interface Result {
  /** Response by actor; rounds of a service have none. */
  readonly responses: Record<string, string>;
  /** Steps that had to wait for a row lock. */
  readonly lockWaits: number;
}

/** Waits until no actor can move by itself: each waits at a sync point or for a lock, or is done. */
async function waitUntilStopped(players: readonly Player[], monitor: Connection, changes: Bell): Promise<void> {
  const end = Date.now() + stopWithinMs;
  const moving = () => players.filter(({ state }) => state === 'moving');
  while (moving().length > 0) {
    await changes.heard();
    const before = moving().length;
    if (before === 0) return;
    const waits = await lockWaits(monitor);
    const now = moving();
    // If all moving actors wait for locks, no other actor can release these locks.
    if (now.length === before && now.every(({ connection }) => waits.has(connection))) {
      for (const player of now) player.state = 'blocked';
    } else if (Date.now() > end) {
      throw new Error(`${now.map(({ actor }) => actor.name).join(', ')} did not stop within ${stopWithinMs} ms`);
    }
  }
}

const isRound = (actor: Actor): actor is BackgroundActor => 'root' in actor;
const keyOf = (service: string, pid: number, root: string) => `${service} ${pid} ${root}`;
const roundKey = ({ service, pid, root }: BackgroundActor) => keyOf(service, pid, root);

/** Whether an arrival belongs to a player: by its trace, or by its `Work`. */
function owns({ actor, trace }: Player, { service, pid, name, trace: arrived }: Arrival): boolean {
  if (!isRound(actor) && arrived === trace) return true;
  const work = isRound(actor) ? actor : actor.work;
  if (work?.service !== service || work.pid !== pid) return false;
  return work.calls.test(name) || (isRound(actor) && name === actor.root);
}

/** What an arrival is for its player: a step, no step, its next round (which stays blocked), or its end. */
function place(player: Player, arrival: Waiting, points: Points): 'step' | 'passes' | 'next round' | 'end' {
  const { actor } = player;
  const begins = isRound(actor) && arrival.name === actor.root && player.root !== arrival.call;
  if (begins && player.begun) return 'next round';
  if (arrival.connection) player.connection = arrival.connection;
  if (begins) player.root = arrival.call;
  if (isRound(actor)) {
    if (actor.ends?.test(arrival.name)) return 'end';
    if (arrival.name !== actor.root) player.busy = true;
    if (actor.until?.test(arrival.point)) player.free = true;
  }
  if (player.free) return 'passes';
  const fits = points.find(([, point, call]) => point.test(arrival.point) && (call?.test(arrival.name) ?? true));
  const label = begins ? (actor.begins ?? 'begin') : fits?.[0];
  if (label === undefined) return 'passes';
  if (player.at) throw new Error(`${player.actor.name} is at ${player.at.label} and at ${label}`);
  player.at = { label, arrival };
  return 'step';
}

/** Whether calls of a round have not reported yet that they are done. */
const hasMore = ({ actor, busy }: Player) => isRound(actor) && actor.ends !== undefined && busy;

/** Lets the chosen player take its step, and returns the player. */
async function takeStep(players: readonly Player[], choose: Choose): Promise<Player | null> {
  const ready = players.filter((player) => player.state === 'waiting');
  if (ready.length === 0) return null;
  const step = choose(ready.map(({ actor, at }): Step => ({ actor: actor.name, label: at!.label })));
  const player = ready.find(({ actor }) => actor.name === step.actor);
  if (!player?.at) throw new Error(`${step.actor} cannot take a step`);
  const { arrival } = player.at;
  player.at = null;
  if (isRound(player.actor) && !player.begun) {
    player.begun = true;
    await player.actor.before?.();
  }
  for (const one of players) if (one.state === 'blocked') one.state = 'moving';
  player.state = 'moving';
  arrival.go();
  return player;
}

export interface Races {
  race(actors: readonly Actor[], points: Points, choose: Choose): Promise<Result>;
  /** Resolves once a round of a background actor is blocked at a sync point. */
  untilBlocked(actor: BackgroundActor): Promise<void>;
  /** Lets a blocked round go on by itself, outside any race. */
  release(actor: BackgroundActor): void;
}

/** The rounds of background actors that are blocked between races. */
interface BlockedRounds extends Pick<Races, 'untilBlocked' | 'release'> {
  /** Handles an arrival outside any race: blocks it when it begins a round of a background actor. */
  idle(arrival: Waiting): void;
  take(actor: BackgroundActor): Waiting | undefined;
}

function blockRounds(background: readonly BackgroundActor[]): BlockedRounds {
  const blocked = new Map<string, Waiting>();
  const awaited = new Map<string, () => void>();
  /** The call of a released round; it arrives more than once. */
  const released = new Map<string, string>();
  const keys = new Set(background.map(roundKey));
  const take = (actor: BackgroundActor): Waiting | undefined => {
    const arrival = blocked.get(roundKey(actor));
    blocked.delete(roundKey(actor));
    return arrival;
  };
  return {
    take,
    idle(arrival) {
      const key = keyOf(arrival.service, arrival.pid, arrival.name);
      const stays = keys.has(key) && released.get(key) !== arrival.call;
      if (!stays) return void arrival.go();
      blocked.set(key, arrival);
      awaited.get(key)?.();
    },
    async untilBlocked(actor) {
      if (blocked.has(roundKey(actor))) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      awaited.set(roundKey(actor), resolve);
      await withTimeout(blockedWithinMs, promise, `${actor.name}, to arrive at a sync point,`);
    },
    release(actor) {
      const arrival = take(actor);
      if (!arrival) return;
      released.set(roundKey(actor), arrival.call);
      arrival.go();
    },
  };
}

function newPlayer(actor: Actor): Player {
  const trace = randomBytes(16).toString('hex');
  const fresh = { root: null, begun: false, busy: false, free: false, connection: 0, response: '' };
  return { actor, trace, state: 'moving', at: null, ...fresh };
}

/** Blocks rounds of background actors between races. Returns the function that runs one race. */
export function startRaces({ syncPoints, monitor, background }: RaceParts): Races {
  const rounds = blockRounds(background);
  syncPoints.watch(rounds.idle);

  const race: Races['race'] = async (actors, points, choose) => {
    const changes = bell();
    const players = actors.map(newPlayer);
    const arrive = (arrival: Waiting): void => {
      const player = players.find((one) => owns(one, arrival));
      const what = player ? place(player, arrival, points) : 'no player';
      if (what === 'passes' || what === 'end') arrival.go();
      if (what === 'no player' || what === 'next round') rounds.idle(arrival);
      if (!player || what === 'passes') return;
      if (what === 'step') player.state = 'waiting';
      else if (what === 'end' || !hasMore(player)) player.state = 'done';
      changes.ring();
    };
    const begin = async (player: Player): Promise<void> => {
      const { actor, trace } = player;
      if (isRound(actor)) {
        const arrival = rounds.take(actor);
        if (arrival) arrive(arrival);
        return;
      }
      player.response = await actor.send(
        traceparent({ traceId: trace, spanId: trace.slice(0, 16), parentId: '', sampled: true }),
      );
      player.state = 'done';
      changes.ring();
    };
    syncPoints.watch(arrive);
    try {
      return resultOf(players, await takeAllSteps({ players, begin, choose, monitor, changes }));
    } finally {
      for (const { at } of players) at?.arrival.go();
      syncPoints.watch(rounds.idle);
    }
  };

  return { race, untilBlocked: rounds.untilBlocked, release: rounds.release };
}

/** Begins all players, and lets one take a step whenever all have stopped. Returns how many steps waited for a lock. */
async function takeAllSteps(parts: {
  players: readonly Player[];
  begin: (player: Player) => Promise<void>;
  choose: Choose;
  monitor: Connection;
  changes: Bell;
}): Promise<number> {
  const { players, begin, choose, monitor, changes } = parts;
  let waits = 0;
  const sent = Promise.all(players.map(begin));
  // Errors of the request are thrown below, once no actor is in progress.
  sent.catch(() => changes.ring());
  await waitUntilStopped(players, monitor, changes);
  for (let player = await takeStep(players, choose); player; player = await takeStep(players, choose)) {
    await Promise.race([
      waitUntilStopped(players, monitor, changes),
      sent.then(() => waitUntilStopped(players, monitor, changes)),
    ]);
    if ((player as Player).state === 'blocked') waits += 1;
  }
  await sent;
  return waits;
}

/** Throws unless every player is done. */
function resultOf(players: readonly Player[], waits: number): Result {
  const left = players.filter(({ state }) => state !== 'done');
  if (left.length > 0) throw new Error(left.map(({ actor, state }) => `${actor.name} is ${state}`).join(', '));
  const requests = players.filter(({ actor }) => !isRound(actor));
  const responses = Object.fromEntries(requests.map(({ actor, response }) => [actor.name, response]));
  return { responses, lockWaits: waits };
}
