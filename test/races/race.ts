/** One run of several actors, one step at a time, each step chosen by whoever explores. */

import { randomBytes } from 'node:crypto';
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

export interface RaceParts {
  gate: Gatekeeper;
  monitor: Connection;
  /** Rounds of these never begin but as actors. */
  held: readonly BackgroundActor[];
}

export interface Result {
  /** Answer by actor; rounds of a service answer nothing. */
  readonly answers: Readonly<Record<string, string>>;
  /** Steps that had to wait for a row lock. */
  readonly lockWaits: number;
}

/** Keeps rounds of background actors from beginning between races. */
export function startRaces({ gate, monitor, held }: RaceParts) {
  const standing = new Map<string, Waiting>();
  const keyOf = ({ service, pid, name, root }: { service: string; pid: number; name?: string; root?: string }) =>
    `${service} ${pid} ${root ?? name}`;
  const heldKeys = new Set(held.map((one) => keyOf({ ...one, name: undefined })));
  const idle = (arrival: Waiting): void => {
    if (heldKeys.has(keyOf(arrival))) standing.set(keyOf(arrival), arrival);
    else arrival.go();
  };
  gate.watch(idle);

  return async (actors: readonly Actor[], points: Points, choose: Choose): Promise<Result> => {
    let wake = () => {};
    const changed = () => wake();
    const players = actors.map((actor): Player => {
      const trace = randomBytes(16).toString('hex');
      return { actor, trace, state: 'moving', at: null, root: null, begun: false, connection: 0, answer: '' };
    });
    const playerOf = (arrival: Waiting) =>
      players.find(({ actor, trace }) =>
        'root' in actor
          ? actor.service === arrival.service &&
            actor.pid === arrival.pid &&
            (arrival.name === actor.root || actor.calls.test(arrival.name))
          : arrival.trace === trace,
      );
    const arrive = (arrival: Waiting): void => {
      const player = playerOf(arrival);
      if (!player) {
        idle(arrival);
        return;
      }
      if (arrival.connection) player.connection = arrival.connection;
      const begins = 'root' in player.actor && arrival.name === player.actor.root && player.root !== arrival.call;
      if (begins && player.begun) {
        idle(arrival);
        player.state = 'done';
        changed();
        return;
      }
      if (begins) player.root = arrival.call;
      const label = begins ? 'begin' : points.find(([, point]) => point.test(arrival.point))?.[0];
      if (label === undefined) {
        arrival.go();
        return;
      }
      if (player.at) throw new Error(`${player.actor.name} is at ${player.at.label} and at ${label}`);
      player.at = { label, arrival };
      player.state = 'waiting';
      changed();
    };

    const settle = async (): Promise<void> => {
      const end = Date.now() + settleWithinMs;
      for (;;) {
        const moving = players.filter(({ state }) => state === 'moving');
        if (moving.length === 0) return;
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, silenceMs);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
        wake = () => {};
        const still = players.filter(({ state }) => state === 'moving');
        if (still.length === 0) return;
        const waits = await lockWaits(monitor);
        const now = players.filter(({ state }) => state === 'moving');
        // Only when nobody else moves can nobody free what they wait for.
        if (now.length === still.length && now.every(({ connection }) => waits.has(connection))) {
          for (const player of now) player.state = 'blocked';
          return;
        }
        if (Date.now() > end) throw new Error(`${now.map(({ actor }) => actor.name).join(', ')} came to no end`);
      }
    };

    gate.watch(arrive);
    let waits = 0;
    const sent = players.map(async (player) => {
      const { actor, trace } = player;
      if ('root' in actor) {
        const arrival = standing.get(keyOf({ ...actor, name: undefined }));
        if (arrival) {
          standing.delete(keyOf(arrival));
          arrive(arrival);
        }
        return;
      }
      const span = traceparent({ traceId: trace, spanId: trace.slice(0, 16), parentId: '', sampled: true });
      player.answer = await actor.send(span);
      player.state = 'done';
      changed();
    });
    try {
      for (;;) {
        await settle();
        const ready = players.filter((player) => player.state === 'waiting');
        if (ready.length === 0) break;
        const step = choose(ready.map(({ actor, at }): Step => ({ actor: actor.name, label: at!.label })));
        const player = ready.find(({ actor }) => actor.name === step.actor);
        if (!player?.at) throw new Error(`${step.actor} cannot take a step`);
        const { arrival, label } = player.at;
        player.at = null;
        if ('root' in player.actor && label === 'begin') {
          player.begun = true;
          await player.actor.before?.();
        }
        for (const one of players) if (one.state === 'blocked') one.state = 'moving';
        player.state = 'moving';
        arrival.go();
        await settle();
        if (ready.some((one) => one === player && one.state === 'blocked')) waits += 1;
      }
      await Promise.all(sent);
    } finally {
      for (const { at } of players) at?.arrival.go();
      gate.watch(idle);
    }
    const left = players.filter(({ state }) => state !== 'done');
    if (left.length > 0) throw new Error(`${left.map(({ actor, state }) => `${actor.name} is ${state}`).join(', ')}`);
    const requests = players.filter(({ actor }) => !('root' in actor));
    return { answers: Object.fromEntries(requests.map(({ actor, answer }) => [actor.name, answer])), lockWaits: waits };
  };
}
