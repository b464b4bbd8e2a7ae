/** One run of several actors, one step at a time, each step chosen by whoever explores. */

import { randomBytes } from 'node:crypto';
import type { Arrival } from '@armature/runtime/race-gate.ts';
import { traceparent } from '@armature/runtime/telemetry/trace.ts';
import type { Connection } from 'mysql2/promise';
import type { Choose, Step } from './explorer.ts';
import type { Gatekeeper, Waiting } from './gatekeeper.ts';
import { lockWaits } from './lock-waits.ts';

/** A request of somebody outside; everything that it brings about shares its trace. */
export interface RequestActor {
  readonly name: string;
  /** Sends the request under the trace and answers how it ended. */
  send(traceparent: string): Promise<string>;
  /** Asks again, outside the race, once everybody has come to an end: for those who were told to come back later. */
  again?(): Promise<string>;
}

/** Work that a service begins by itself, such as a sweep: it stands at the gate until it is chosen. */
export interface BackgroundActor {
  readonly name: string;
  /** The name of the call that begins a round; the round is over when the next one begins. */
  readonly root: string;
  readonly service: string;
  readonly pid: number;
  /** Names of calls that belong to a round, besides the root. */
  readonly calls: RegExp;
  /** What must have come about outside before a round begins, such as that time has passed. */
  before?: () => Promise<void>;
}

export type Actor = RequestActor | BackgroundActor;

/** Which passings are steps, and what they are called; the first that fits counts. Everything else is no step. */
export type Points = readonly (readonly [label: string, point: RegExp])[];

const silenceMs = 2;
/** Longer than a lock wait of the services, and their transactions' tries. */
const settleWithinMs = 30_000;

interface Player {
  readonly actor: Actor;
  readonly trace: string;
  state: 'moving' | 'waiting' | 'blocked' | 'done';
  at: { label: string; arrival: Waiting } | null;
  root: string | null;
  begun: boolean;
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

/** Whether an arrival is a player's: by its trace, or by whose round it is of. */
function owns({ actor, trace }: Player, { service, pid, name, trace: arrived }: Arrival): boolean {
  if (!isRound(actor)) return arrived === trace;
  return actor.service === service && actor.pid === pid && (name === actor.root || actor.calls.test(name));
}

/** Takes an arrival of a player for what it is: a step, no step, or the end of its round, which then stands again. */
function place(player: Player, arrival: Waiting, points: Points): 'step' | 'passes' | 'round over' {
  if (arrival.connection) player.connection = arrival.connection;
  const begins = isRound(player.actor) && arrival.name === player.actor.root && player.root !== arrival.call;
  if (begins && player.begun) return 'round over';
  if (begins) player.root = arrival.call;
  const label = begins ? 'begin' : points.find(([, point]) => point.test(arrival.point))?.[0];
  if (label === undefined) return 'passes';
  if (player.at) throw new Error(`${player.actor.name} is at ${player.at.label} and at ${label}`);
  player.at = { label, arrival };
  return 'step';
}

/** Lets the chosen player take its step, and answers who that was. */
async function takeStep(players: readonly Player[], choose: Choose): Promise<Player | null> {
  const ready = players.filter((player) => player.state === 'waiting');
  if (ready.length === 0) return null;
  const step = choose(ready.map(({ actor, at }): Step => ({ actor: actor.name, label: at!.label })));
  const player = ready.find(({ actor }) => actor.name === step.actor);
  if (!player?.at) throw new Error(`${step.actor} cannot take a step`);
  const { arrival, label } = player.at;
  player.at = null;
  if (isRound(player.actor) && label === 'begin') {
    player.begun = true;
    await player.actor.before?.();
  }
  for (const one of players) if (one.state === 'blocked') one.state = 'moving';
  player.state = 'moving';
  arrival.go();
  return player;
}

/** Keeps rounds of background actors from beginning between races; answers how to run one race. */
export function startRaces({ gate, monitor, held }: RaceParts) {
  const standing = new Map<string, Waiting>();
  const heldKeys = new Set(held.map(({ service, pid, root }) => keyOf(service, pid, root)));
  const idle = (arrival: Waiting): void => {
    const key = keyOf(arrival.service, arrival.pid, arrival.name);
    if (heldKeys.has(key)) standing.set(key, arrival);
    else arrival.go();
  };
  gate.watch(idle);

  return async (actors: readonly Actor[], points: Points, choose: Choose): Promise<Result> => {
    const changes = bell();
    const players = actors.map((actor): Player => {
      const trace = randomBytes(16).toString('hex');
      return { actor, trace, state: 'moving', at: null, root: null, begun: false, connection: 0, answer: '' };
    });
    const arrive = (arrival: Waiting): void => {
      const player = players.find((one) => owns(one, arrival));
      const what = player ? place(player, arrival, points) : 'nobody';
      if (what === 'passes') arrival.go();
      if (what === 'nobody' || what === 'round over') idle(arrival);
      if (!player || what === 'passes') return;
      player.state = what === 'step' ? 'waiting' : 'done';
      changes.ring();
    };
    const begin = async (player: Player): Promise<void> => {
      const { actor, trace } = player;
      if (isRound(actor)) {
        const key = keyOf(actor.service, actor.pid, actor.root);
        const arrival = standing.get(key);
        standing.delete(key);
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
}
