/** The fields of an item that the scheduler uses. */
export interface KeyedItem {
  readonly aggregateId: string;
  /**
   * 0: a baseline, which replaces missing items. It waits until the items before it are done or the first one is early.
   */
  readonly sequence: bigint;
}

/**
 * `done`: the item is finished. `early`: its predecessor is missing; it stays at the head of its queue. `again`: work
 * on it is not possible now; it stays at the head of its queue, which continues after `resume`.
 */
export type TaskResult = 'done' | 'early' | 'again';

export interface KeyedExecutorOptions<T extends KeyedItem> {
  /** Number of concurrent pieces of work. */
  width: number;
  /** Items that `batchable` accepts are processed together, across queues, up to this many. */
  batchMax: number;
  batchable: (item: T) => boolean;
  /** Processes one item, or several batchable ones. Must not reject. */
  work: (items: readonly T[]) => Promise<readonly TaskResult[]>;
  /** Early items are passed to `giveUp` after this time, or when more than `stalledMax` wait. */
  stallMs: number;
  stalledMax: number;
  giveUp: (items: readonly T[]) => void;
}

export interface KeyedExecutor<T extends KeyedItem> {
  add(item: T): void;
  /** Removes matching items that are not in progress. */
  remove(match: (item: T) => boolean): void;
  /** Starts no new work until `resume`; work in progress is finished. */
  pause(): void;
  resume(): void;
  /** Starts no new work and resolves once none is in progress. */
  stop(): Promise<void>;
}

interface KeyQueue<T> {
  /** Ascending by sequence, except that baselines stay behind the items that arrived before them. */
  items: T[];
  running: boolean;
  /** When its head was found to be early; null when it can be processed. */
  stalledAt: number | null;
}

interface ExecutorState<T extends KeyedItem> extends KeyedExecutorOptions<T> {
  readonly queues: Map<string, KeyQueue<T>>;
  /** Keys whose head item may be processed now, first come first served. */
  readonly ready: Set<string>;
  running: number;
  /**
   * Whether a batch is in progress. The next one waits for it and grows meanwhile, so that batches grow with the load,
   * and an idle consumer never waits.
   */
  batching: boolean;
  paused: boolean;
  stopped: boolean;
  onIdle: () => void;
  stallTimer: NodeJS.Timeout | null;
}

/**
 * Runs items of different aggregates concurrently and those of one aggregate one after another, in the order of their
 * sequence. A queue whose head came too early stalls until a smaller sequence or a baseline arrives.
 */
export function openKeyedExecutor<T extends KeyedItem>(options: KeyedExecutorOptions<T>): KeyedExecutor<T> {
  const state: ExecutorState<T> = {
    ...options,
    queues: new Map(),
    ready: new Set(),
    running: 0,
    batching: false,
    paused: false,
    stopped: false,
    onIdle: () => undefined,
    stallTimer: null,
  };
  return {
    add(item) {
      const queue = state.queues.get(item.aggregateId) ?? { items: [], running: false, stalledAt: null };
      state.queues.set(item.aggregateId, queue);
      if (queue.stalledAt !== null && isBaseline(item)) queue.items.unshift(item);
      else insert(queue.items, item);
      if (queue.items[0] === item) queue.stalledAt = null;
      place(state, item.aggregateId, queue);
      pump(state);
    },
    remove(match) {
      for (const [key, queue] of state.queues) {
        queue.items = queue.items.filter((item) => !match(item));
        queue.stalledAt = null;
        state.ready.delete(key);
        place(state, key, queue);
      }
      pump(state);
    },
    pause() {
      state.paused = true;
    },
    resume() {
      state.paused = false;
      pump(state);
    },
    stop() {
      state.stopped = true;
      if (state.stallTimer) clearTimeout(state.stallTimer);
      return new Promise((resolve) => {
        state.onIdle = resolve;
        if (state.running === 0) resolve();
      });
    },
  };
}

/** Keeps the order of sequences; an equal one goes behind. The end is nearly always the right place. */
function insert<T extends KeyedItem>(items: T[], item: T): void {
  let index = items.length;
  if (!isBaseline(item)) while (index > 0 && items[index - 1]!.sequence > item.sequence) index -= 1;
  items.splice(index, 0, item);
}

/** Puts an item back that was at the head: only smaller sequences that arrived meanwhile go before it. */
function putBack<T extends KeyedItem>(items: T[], item: T): void {
  let index = 0;
  while (index < items.length && !isBaseline(items[index]!) && items[index]!.sequence < item.sequence) index += 1;
  items.splice(index, 0, item);
}

const isBaseline = ({ sequence }: KeyedItem): boolean => sequence === 0n;

/** Moves the first baseline to the head of a queue that cannot continue. Returns false when there is none. */
function moveBaselineUp<T extends KeyedItem>(items: T[]): boolean {
  const index = items.findIndex(isBaseline);
  if (index < 0) return false;
  items.unshift(...items.splice(index, 1));
  return true;
}

/** Makes a queue that has changed ready, or removes it when it is empty. */
function place<T extends KeyedItem>({ queues, ready }: ExecutorState<T>, key: string, queue: KeyQueue<T>): void {
  if (queue.running) return;
  if (queue.items.length === 0) queues.delete(key);
  else if (queue.stalledAt === null) ready.add(key);
}

function pump<T extends KeyedItem>(state: ExecutorState<T>): void {
  while (!state.stopped && !state.paused && state.running < state.width) {
    const taken = take(state);
    if (taken.size === 0) return;
    void run(state, taken);
  }
}

/**
 * Takes the head of the first ready queue; when it is batchable, the batchable heads of all ready queues. Returns
 * nothing when all ready queues must wait for the batch in progress.
 */
function take<T extends KeyedItem>(state: ExecutorState<T>): Map<string, T[]> {
  const { queues, ready, batchable, batchMax } = state;
  const taken = new Map<string, T[]>();
  let count = 0;
  for (const key of ready) {
    const queue = queues.get(key)!;
    const together = batchable(queue.items[0]!);
    if (together ? state.batching : count > 0) continue;
    let many = 1;
    if (together)
      while (many < queue.items.length && count + many < batchMax && batchable(queue.items[many]!)) many += 1;
    taken.set(key, queue.items.splice(0, many));
    queue.running = true;
    ready.delete(key);
    count += many;
    if (!together || count >= batchMax) break;
  }
  return taken;
}

async function run<T extends KeyedItem>(state: ExecutorState<T>, taken: Map<string, T[]>): Promise<void> {
  const items = [...taken.values()].flat();
  const batch = state.batchable(items[0]!);
  state.running += 1;
  if (batch) state.batching = true;
  const results = await state.work(items);
  state.running -= 1;
  if (batch) state.batching = false;
  const left = (result: TaskResult) => new Set(items.filter((_, index) => results[index] === result));
  const [early, again] = [left('early'), left('again')];
  for (const [key, ofKey] of taken) {
    const queue = state.queues.get(key)!;
    queue.running = false;
    const back = ofKey.filter((item) => early.has(item) || again.has(item));
    for (const item of back.reverse()) putBack(queue.items, item);
    // An item that arrived meanwhile may be the missing predecessor, or replace it.
    const [head] = queue.items;
    const stalled = head !== undefined && early.has(head) && !moveBaselineUp(queue.items);
    queue.stalledAt = stalled ? Date.now() : null;
    place(state, key, queue);
  }
  if (early.size > 0) giveUpStalled(state);
  if (state.running === 0) state.onIdle();
  pump(state);
}

/** Gives up queues that have stalled too long, and the longest stalled ones when too many items wait. */
function giveUpStalled<T extends KeyedItem>(state: ExecutorState<T>): void {
  if (state.stallTimer) clearTimeout(state.stallTimer);
  state.stallTimer = null;
  if (state.stopped) return;
  const stalled = [...state.queues].filter(([, queue]) => queue.stalledAt !== null && !queue.running);
  stalled.sort(([, a], [, b]) => a.stalledAt! - b.stalledAt!);
  let waiting = stalled.reduce((sum, [, queue]) => sum + queue.items.length, 0);
  for (const [key, queue] of stalled) {
    if (Date.now() - queue.stalledAt! < state.stallMs && waiting <= state.stalledMax) break;
    waiting -= queue.items.length;
    state.queues.delete(key);
    state.giveUp(queue.items);
  }
  if (waiting > 0) state.stallTimer = setTimeout(() => giveUpStalled(state), Math.max(20, state.stallMs / 4));
}
