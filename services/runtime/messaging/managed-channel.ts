import { once } from 'node:events';
import type { ChannelModel, ConfirmChannel } from 'amqplib';
import type { Logger } from '../telemetry/log.ts';
import { type BackoffPolicy, backOff } from '../time/backoff.ts';
import { withTimeout } from '../time/timeout.ts';
import { type Outage, openOutage } from './outage.ts';

/** A channel that is opened and set up again after every loss. */
export interface ManagedChannel {
  /** Null while no channel is set up. */
  current(): ConfirmChannel | null;
  /** The reason why the last channel could not be set up; null once one was. */
  failure(): string | null;
  /** Closes the channel and stops opening new ones. */
  release(): Promise<void>;
}

export interface ManagedChannelOptions {
  name: string;
  log: Logger;
  backoff: BackoffPolicy;
  /** Runs on each new channel; after 15 s the channel is closed. */
  setup: (channel: ConfirmChannel) => Promise<void>;
  /** Resolves with the connection, as soon as there is one. */
  connection: () => Promise<ChannelModel>;
}

const setupTimeoutMs = 15_000;
const closeTimeoutMs = 2_000;
/** After a channel that lived this long, the backoff starts from the beginning. */
export const soundAfterMs = 5_000;

export function manageChannel(options: ManagedChannelOptions): ManagedChannel {
  const released = new AbortController();
  const state: ChannelState = {
    ...options,
    signal: released.signal,
    end: once(released.signal, 'abort'),
    current: null,
    failure: null,
    outage: openOutage(),
  };
  const running = stayOpen(state);
  return {
    current: () => state.current,
    failure: () => state.failure,
    async release() {
      released.abort();
      await quietly(running);
    },
  };
}

interface ChannelState extends ManagedChannelOptions {
  readonly signal: AbortSignal;
  readonly end: Promise<unknown>;
  current: ConfirmChannel | null;
  failure: string | null;
  /** Ends when a channel has lasted. */
  readonly outage: Outage;
}

async function stayOpen(state: ChannelState): Promise<void> {
  for (let failures = 0; ; ) {
    const model = await Promise.race([state.connection(), state.end.then(() => null)]);
    if (!model || state.signal.aborted) return;
    const since = Date.now();
    await openOnce(state, model);
    const lasted = Date.now() - since > soundAfterMs;
    failures = lasted ? 0 : failures + 1;
    if (lasted && state.failure === null) state.outage.over();
    await backOff(failures, state.failure === null ? state.backoff : refusedBackoff(state.backoff), state.signal);
  }
}

/** A rejection by the broker lasts until its cause is repaired, so the retries are less frequent. */
const refusedBackoff = (backoff: BackoffPolicy): BackoffPolicy => ({
  ...backoff,
  maxBackoffMs: backoff.maxBackoffMs * 3,
});

/** Logs each failure of a channel once. */
function tell({ log, name, outage }: ChannelState, error: unknown, what: string): string {
  if (outage.isNew(error)) log.warn({ err: error, channel: name }, what);
  return error instanceof Error ? error.message : String(error);
}

/** Opens a channel and returns when it is closed. */
async function openOnce(state: ChannelState, model: ChannelModel): Promise<void> {
  let channel: ConfirmChannel | null = null;
  try {
    channel = await model.createConfirmChannel();
    const closed = closing(channel, (error) => {
      // During the setup, the setup rejects with the same error.
      if (state.current) tell(state, error, 'broker channel failed');
    });
    await withTimeout(setupTimeoutMs, state.setup(channel), `setting up ${state.name}`);
    state.current = channel;
    state.failure = null;
    await Promise.race([closed, state.end]);
  } catch (error) {
    state.failure = tell(state, error, 'broker channel not set up; it is tried again');
  }
  state.current = null;
  if (channel) await quietly(channel.close());
}

/** A channel without an error listener would end the process. */
function closing(channel: ConfirmChannel, onError: (error: Error) => void): Promise<void> {
  return new Promise((resolve) => {
    channel.on('error', onError);
    channel.on('close', () => resolve());
  });
}

/** Runs `work` on its own channel. Rejects with the broker's error. */
export async function onOwnChannel<T>(model: ChannelModel, work: (channel: ConfirmChannel) => Promise<T>): Promise<T> {
  const channel = await model.createConfirmChannel();
  // An error of the broker rejects `work` too.
  void closing(channel, () => undefined);
  try {
    return await withTimeout(setupTimeoutMs, work(channel), 'a broker operation');
  } finally {
    await quietly(channel.close());
  }
}

/** Closes a channel or connection that may be closed already: amqplib throws then, and that error is irrelevant. */
export async function quietly(closing: Promise<unknown>): Promise<void> {
  await withTimeout(closeTimeoutMs, closing, 'closing').catch(() => undefined);
}
