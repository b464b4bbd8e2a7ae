/** One run of several actors, one step at a time, each step chosen by whoever explores. */

import { randomBytes } from 'node:crypto';
import { traceparent } from '@armature/runtime/context';
import type { Arrival } from '@armature/runtime/sync';
import { withTimeout } from '@armature/runtime/time';
import type { Connection } from 'mysql2/promise';
import type { Choose, Step } from './explorer.ts';
import type { Gatekeeper, Waiting } from './gatekeeper.ts';
import { lockWaits } from './lock-waits.ts';

/** Calls of one process by which work is known that has no trace of ours. */
export interface Work {
  readonly service: string;
  readonly pid: number;
  /** Names of these calls. */
  readonly calls: RegExp;
}

/** A request of somebody outside; everything that it brings about shares its trace, or is its work. */
export interface RequestActor {
  readonly name: string;
  readonly work?: Work;
  /** Sends the request under the trace and answers how it ended. */
  send(traceparent: string): Promise<string>;
  /** Asks again, outside the race, once everybody has come to an end: for those who were told to come back later. */
  again?(): Promise<string>;
}

/** Work that a service begins by itself, such as a sweep: it stands at the gate until it is chosen. */
export interface BackgroundActor extends Work {
  readonly name: string;
  /** The name of the call that begins a round; other calls that belong to one are named by `calls`. */
  readonly root: string;
  /** What the first step of a round is called; "begin" where nothing is said. */
  readonly begins?: string;
  /** From this point on nothing of the round is a step any more. */
  readonly until?: RegExp;
  /** What must have come about outside before a round begins, such as that time has passed. */
  before?: () => Promise<void>;
  /**
   * The name under which other calls of a round say that they are done, where they may go on while the next round
   * begins. Else a round is over when the next one begins; so is one that has made no other call.
   */
  readonly ends?: RegExp;
}

export type Actor = RequestActor | BackgroundActor;

/**
 * Which passings are steps, and what they are called; the first that fits counts. Everything else is no step. Where
 * there is a `call`, the name of the call must fit too.
 */
export type Points = readonly (readonly [label: string, point: RegExp, call?: RegExp])[];

const silenceMs = 2;
/** Longer than a lock wait of the services, and their transactions' tries. */
const settleWithinMs = 30_000;
const standsWithinMs = 10_000;

interface Player {
  readonly actor: Actor;
  readonly trace: string;
  state: 'moving' | 'waiting' | 'blocked' | 'done';
  at: { label: string; arrival: Waiting } | null;
  root: string | null;
  begun: boolean;
  /** The round has made other calls than its root. */
  busy: boolean;
  /** What is still to come of it is no step any more. */
  free: boolean;
  connection: number;
  answer: string;
}

/** Says once that something has changed to whoever waits for that. */
interface Bell {
  ring(): void;
  /** Resolves when it rings, and after some silence. */
  heard(): Promise<void>;
}

function bell(): Bell {
  let wake = () => {};
  return {
    ring: () => wake(),
    heard: () =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, silenceMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      }),
  };
}

export interface RaceParts {
  gate: Gatekeeper;
  monitor: Connection;
  /** Rounds of these never begin but as actors. */
  held: readonly BackgroundActor[];
}

export interface Result {
  /** Answer by actor; rounds of a service answer nothing. */
  readonly answers: Record<string, string>;
  /** Steps that had to wait for a row lock. */
  readonly lockWaits: number;
}

/** Waits until nobody moves by himself: all wait at the gate or for a lock, or are done. */
async function settle(players: readonly Player[], monitor: Connection, changes: Bell): Promise<void> {
  const end = Date.now() + settleWithinMs;
  const moving = () => players.filter(({ state }) => state === 'moving');
  while (moving().length > 0) {
    await changes.heard();
    const before = moving().length;
    if (before === 0) return;
    const waits = await lockWaits(monitor);
    const now = moving();
    // Only when nobody else moves can nobody free what they wait for.
    if (now.length === before && now.every(({ connection }) => waits.has(connection))) {
      for (const player of now) player.state = 'blocked';
    } else if (Date.now() > end) {
      throw new Error(`${now.map(({ actor }) => actor.name).join(', ')} came to no end`);
    }
  }
}

const isRound = (actor: Actor): actor is BackgroundActor => 'root' in actor;
const keyOf = (service: string, pid: number, root: string) => `${service} ${pid} ${root}`;
const roundKey = ({ service, pid, root }: BackgroundActor) => keyOf(service, pid, root);

/** Whether an arrival is a player's: by its trace, or by whose work it is. */
function owns({ actor, trace }: Player, { service, pid, name, trace: arrived }: Arrival): boolean {
  if (!isRound(actor) && arrived === trace) return true;
  const work = isRound(actor) ? actor : actor.work;
  if (work?.service !== service || work.pid !== pid) return false;
  return work.calls.test(name) || (isRound(actor) && name === actor.root);
}

/** What an arrival is to its player: its step or none, its next round, which is left standing, or its end. */
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

/** Whether calls of a round are still to say that they are done. */
const hasMore = ({ actor, busy }: Player) => isRound(actor) && actor.ends !== undefined && busy;

/** Lets the chosen player take its step, and answers who that was. */
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
  /** Resolves once a round of a held actor stands at the gate. */
  stands(actor: BackgroundActor): Promise<void>;
  /** Lets a round that stands there go on by itself, outside of any race. */
  letGo(actor: BackgroundActor): void;
}

/** Keeps rounds of background actors from beginning between races; answers how to run one race. */
export function startRaces({ gate, monitor, held }: RaceParts): Races {
  const standing = new Map<string, Waiting>();
  const awaited = new Map<string, () => void>();
  /** The call of a round that was let go, which arrives more than once. */
  const gone = new Map<string, string>();
  const heldKeys = new Set(held.map(roundKey));
  const idle = (arrival: Waiting): void => {
    const key = keyOf(arrival.service, arrival.pid, arrival.name);
    const stays = heldKeys.has(key) && gone.get(key) !== arrival.call;
    if (!stays) return void arrival.go();
    standing.set(key, arrival);
    awaited.get(key)?.();
  };
  const takeStanding = (actor: BackgroundActor): Waiting | undefined => {
    const arrival = standing.get(roundKey(actor));
    standing.delete(roundKey(actor));
    return arrival;
  };
  gate.watch(idle);

  const race: Races['race'] = async (actors, points, choose) => {
    const changes = bell();
    const players = actors.map((actor): Player => {
      const trace = randomBytes(16).toString('hex');
      const fresh = { root: null, begun: false, busy: false, free: false, connection: 0, answer: '' };
      return { actor, trace, state: 'moving', at: null, ...fresh };
    });
    const arrive = (arrival: Waiting): void => {
      const player = players.find((one) => owns(one, arrival));
      const what = player ? place(player, arrival, points) : 'nobody';
      if (what === 'passes' || what === 'end') arrival.go();
      if (what === 'nobody' || what === 'next round') idle(arrival);
      if (!player || what === 'passes') return;
      if (what === 'step') player.state = 'waiting';
      else if (what === 'end' || !hasMore(player)) player.state = 'done';
      changes.ring();
    };
    const begin = async (player: Player): Promise<void> => {
      const { actor, trace } = player;
      if (isRound(actor)) {
        const arrival = takeStanding(actor);
        if (arrival) arrive(arrival);
        return;
      }
      player.answer = await actor.send(
        traceparent({ traceId: trace, spanId: trace.slice(0, 16), parentId: '', sampled: true }),
      );
      player.state = 'done';
      changes.ring();
    };
    gate.watch(arrive);
    let waits = 0;
    try {
      const sent = Promise.all(players.map(begin));
      // Whatever is wrong with an answer is thrown below, once nobody is under way.
      sent.catch(() => changes.ring());
      await settle(players, monitor, changes);
      for (let player = await takeStep(players, choose); player; player = await takeStep(players, choose)) {
        await Promise.race([settle(players, monitor, changes), sent.then(() => settle(players, monitor, changes))]);
        if ((player as Player).state === 'blocked') waits += 1;
      }
      await sent;
    } finally {
      for (const { at } of players) at?.arrival.go();
      gate.watch(idle);
    }
    const left = players.filter(({ state }) => state !== 'done');
    if (left.length > 0) throw new Error(left.map(({ actor, state }) => `${actor.name} is ${state}`).join(', '));
    const requests = players.filter(({ actor }) => !isRound(actor));
    return { answers: Object.fromEntries(requests.map(({ actor, answer }) => [actor.name, answer])), lockWaits: waits };
  };

  return {
    race,
    async stands(actor) {
      if (standing.has(roundKey(actor))) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      awaited.set(roundKey(actor), resolve);
      await withTimeout(standsWithinMs, promise, `${actor.name}, to stand at the gate,`);
    },
    letGo(actor) {
      const arrival = takeStanding(actor);
      if (!arrival) return;
      gone.set(roundKey(actor), arrival.call);
      arrival.go();
    },
  };
}
