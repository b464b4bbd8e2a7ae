import type { ChannelModel, ConfirmChannel } from 'amqplib';
import type { Logger } from '../telemetry/log.ts';
import { type BackoffPolicy, backOff } from '../time/backoff.ts';
import { brokerDialer } from './broker-dialer.ts';
import { type ManagedChannel, manageChannel, onOwnChannel, quietly, soundAfterMs } from './managed-channel.ts';
import { openOutage } from './outage.ts';

export interface LinkOptions {
  url: string;
  /** The connection name that the broker shows: "orders publish". */
  name: string;
  log: Logger;
  /** Runs on every new connection before it is used. */
  prelude: (link: Pick<Link, 'withChannel'>) => Promise<void>;
  backoff?: BackoffPolicy;
}

export interface Link {
  connected(): boolean;
  /** True while the broker accepts no messages from this connection, because it is short of memory or disk. */
  blocked(): boolean;
  /** Runs `act` whenever the broker begins to block this connection. */
  onBlocked(act: () => void): void;
  /** Keeps a channel open for as long as the link lives, and runs `setup` on each new one. */
  keepChannel(name: string, setup: (channel: ConfirmChannel) => Promise<void>): ManagedChannel;
  /** Runs `work` on its own channel. Rejects when not connected, or with the broker's error. */
  withChannel<T>(work: (channel: ConfirmChannel) => Promise<T>): Promise<T>;
  /** Closes this connection and opens a new one: its state is no longer known. */
  reset(reason: string): void;
  close(): Promise<void>;
}

interface LinkState {
  readonly options: LinkOptions;
  readonly backoff: BackoffPolicy;
  readonly stopped: AbortController;
  readonly channels: Set<ManagedChannel>;
  readonly dial: () => Promise<ChannelModel>;
  model: ChannelModel | null;
  blocked: boolean;
  readonly whenBlocked: Set<() => void>;
  /** Resolves with the next connection, or the current one. */
  arrival: PromiseWithResolvers<ChannelModel>;
}

/**
 * One connection to the broker that is opened again after any loss, with its channels. amqplib's own recovery restores
 * only the connection, neither channels nor consumers, so it is not used.
 */
export function openLink(options: LinkOptions): Link {
  const state: LinkState = {
    options,
    backoff: options.backoff ?? { initialBackoffMs: 200, maxBackoffMs: 3_000 },
    stopped: new AbortController(),
    channels: new Set(),
    dial: dialer(options),
    model: null,
    blocked: false,
    whenBlocked: new Set(),
    arrival: Promise.withResolvers(),
  };
  const { log, name } = options;
  const running = stayConnected(state);
  return {
    connected: () => state.model !== null,
    blocked: () => state.blocked,
    onBlocked: (act) => void state.whenBlocked.add(act),
    keepChannel(channelName, setup) {
      const connection = () => state.arrival.promise;
      const managed = manageChannel({ name: channelName, log, backoff: state.backoff, setup, connection });
      state.channels.add(managed);
      return managed;
    },
    withChannel(work) {
      return state.model ? onOwnChannel(state.model, work) : Promise.reject(new Error('no connection to the broker'));
    },
    reset(reason) {
      if (!state.model) return;
      log.warn({ connection: name, reason }, 'broker connection given up');
      void shut(state.model);
    },
    async close() {
      await Promise.all([...state.channels].map((channel) => channel.release()));
      state.stopped.abort();
      // A broker that blocks a connection does not read from it either, so it would not respond to a close.
      if (state.model) await (state.blocked ? cutOff(state.model) : shut(state.model));
      await running;
    },
  };
}

async function stayConnected(state: LinkState): Promise<void> {
  const { options, stopped } = state;
  const { log, name: connection } = options;
  const outage = openOutage();
  for (let failures = 0; !stopped.signal.aborted; ) {
    const since = Date.now();
    let model: ChannelModel | null = null;
    try {
      model = await state.dial();
      const opened = model;
      const lost = watch(state, opened);
      await options.prelude({ withChannel: (work) => onOwnChannel(opened, work) });
      log.info({ connection }, 'broker connected');
      outage.over();
      state.model = opened;
      state.arrival.resolve(opened);
      if (!stopped.signal.aborted) await lost;
    } catch (error) {
      if (outage.isNew(error)) log.warn({ err: error, connection }, 'broker not reached; it is tried again');
    }
    if (model) {
      forget(state, model);
      await shut(model);
    }
    if (stopped.signal.aborted) return;
    failures = Date.now() - since > soundAfterMs ? 0 : failures + 1;
    await backOff(failures, state.backoff, stopped.signal);
  }
}

/** Follows the state of a connection. Resolves when it is closed, for any reason. */
function watch(state: LinkState, model: ChannelModel): Promise<void> {
  const { log, name: connection } = state.options;
  const lost = Promise.withResolvers<void>();
  state.blocked = false;
  model.on('error', (error) => log.warn({ err: error, connection }, 'broker connection failed'));
  model.on('blocked', (reason) => {
    state.blocked = true;
    log.error({ connection, reason }, 'broker blocks publishing');
    for (const act of state.whenBlocked) act();
  });
  model.on('unblocked', () => {
    state.blocked = false;
    log.info({ connection }, 'broker takes publishes again');
  });
  model.on('close', () => {
    forget(state, model);
    lost.resolve();
  });
  return lost.promise;
}

function forget(state: LinkState, model: ChannelModel): void {
  if (state.model !== model) return;
  state.model = null;
  state.arrival = Promise.withResolvers();
}

function dialer(options: LinkOptions): () => Promise<ChannelModel> {
  const url = new URL(options.url);
  url.searchParams.set('heartbeat', '10');
  const dial = brokerDialer(url.href);
  const clientProperties = { connection_name: options.name };
  return () => dial({ timeout: 5_000, noDelay: true, keepAlive: true, clientProperties });
}

/** Closes a connection properly if the broker responds within 2 s, else destroys its socket. */
async function shut(model: ChannelModel): Promise<void> {
  await quietly(model.close());
  cutOff(model);
}

function cutOff(model: ChannelModel): void {
  // amqplib has no way to abort a connection whose peer is silent, and its types hide the socket.
  const { stream } = model.connection as unknown as { stream?: { destroy(error?: Error): void } };
  stream?.destroy(new Error('the connection was given up'));
}
