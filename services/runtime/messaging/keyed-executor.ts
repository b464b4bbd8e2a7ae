/** The fields of an item that the scheduler uses. */
export interface LaneItem {
  readonly aggregateId: string;
  /**
   * 0: a baseline, which replaces missing items. It waits until the items before it are done or the first one is early.
   */
  readonly sequence: bigint;
}

/**
 * `done`: the item is finished. `early`: its predecessor is missing; it stays at the head of its lane. `again`: work on
 * it is not possible now; it stays at the head of its lane, which continues after `resume`.
 */
export type TaskResult = 'done' | 'early' | 'again';

export interface LanesOptions<T extends LaneItem> {
  /** Number of concurrent pieces of work. */
  width: number;
  /** Items that `batchable` accepts are processed together, across lanes, up to this many. */
  batchMax: number;
  batchable: (item: T) => boolean;
  /** Processes one item, or several batchable ones. Must not reject. */
  work: (items: readonly T[]) => Promise<readonly TaskResult[]>;
  /** Early items are passed to `giveUp` after this time, or when more than `stalledMax` wait. */
  stallMs: number;
  stalledMax: number;
  giveUp: (items: readonly T[]) => void;
}

export interface KeyedExecutor<T extends LaneItem> {
  add(item: T): void;
  /** Removes matching items that are not in progress. */
  remove(match: (item: T) => boolean): void;
  /** Starts no new work until `resume`; work in progress is finished. */
  pause(): void;
  resume(): void;
  /** Starts no new work and resolves once none is in progress. */
  stop(): Promise<void>;
}

interface Lane<T> {
  /** Ascending by sequence, except that baselines stay behind the items that arrived before them. */
  items: T[];
  running: boolean;
  /** When its head was found to be early; null when it can be processed. */
  stalledAt: number | null;
}

interface LanesState<T extends LaneItem> extends LanesOptions<T> {
  readonly lanes: Map<string, Lane<T>>;
  /** KeyedExecutor whose head may be processed now, first come first served. */
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
  sweeper: NodeJS.Timeout | null;
}

/**
 * Runs items of different aggregates concurrently and those of one aggregate one after another, in the order of their
 * sequence. A lane whose head came too early stalls until a smaller sequence or a baseline arrives.
 */
export function openKeyedExecutor<T extends LaneItem>(options: LanesOptions<T>): KeyedExecutor<T> {
  const state: LanesState<T> = {
    ...options,
    lanes: new Map(),
    ready: new Set(),
    running: 0,
    batching: false,
    paused: false,
    stopped: false,
    onIdle: () => undefined,
    sweeper: null,
  };
  return {
    add(item) {
      const lane = state.lanes.get(item.aggregateId) ?? { items: [], running: false, stalledAt: null };
      state.lanes.set(item.aggregateId, lane);
      if (lane.stalledAt !== null && isBaseline(item)) lane.items.unshift(item);
      else insert(lane.items, item);
      if (lane.items[0] === item) lane.stalledAt = null;
      place(state, item.aggregateId, lane);
      pump(state);
    },
    remove(match) {
      for (const [key, lane] of state.lanes) {
        lane.items = lane.items.filter((item) => !match(item));
        lane.stalledAt = null;
        state.ready.delete(key);
        place(state, key, lane);
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
      if (state.sweeper) clearTimeout(state.sweeper);
      return new Promise((resolve) => {
        state.onIdle = resolve;
        if (state.running === 0) resolve();
      });
    },
  };
}

/** Keeps the order of sequences; an equal one goes behind. The end is nearly always the right place. */
function insert<T extends LaneItem>(items: T[], item: T): void {
  let index = items.length;
  if (!isBaseline(item)) while (index > 0 && items[index - 1]!.sequence > item.sequence) index -= 1;
  items.splice(index, 0, item);
}

/** Puts an item back that was at the head: only smaller sequences that arrived meanwhile go before it. */
function putBack<T extends LaneItem>(items: T[], item: T): void {
  let index = 0;
  while (index < items.length && !isBaseline(items[index]!) && items[index]!.sequence < item.sequence) index += 1;
  items.splice(index, 0, item);
}

const isBaseline = ({ sequence }: LaneItem): boolean => sequence === 0n;

/** Moves the first baseline to the head of a lane that cannot continue. Returns false when there is none. */
function moveBaselineUp<T extends LaneItem>(items: T[]): boolean {
  const index = items.findIndex(isBaseline);
  if (index < 0) return false;
  items.unshift(...items.splice(index, 1));
  return true;
}

/** Makes a lane that has changed ready, or removes it when it is empty. */
function place<T extends LaneItem>({ lanes, ready }: LanesState<T>, key: string, lane: Lane<T>): void {
  if (lane.running) return;
  if (lane.items.length === 0) lanes.delete(key);
  else if (lane.stalledAt === null) ready.add(key);
}

function pump<T extends LaneItem>(state: LanesState<T>): void {
  while (!state.stopped && !state.paused && state.running < state.width) {
    const taken = take(state);
    if (taken.size === 0) return;
    void run(state, taken);
  }
}

/**
 * Takes the head of the first ready lane; when it is batchable, the batchable heads of all ready lanes. Returns nothing
 * when all ready lanes must wait for the batch in progress.
 */
function take<T extends LaneItem>(state: LanesState<T>): Map<string, T[]> {
  const { lanes, ready, batchable, batchMax } = state;
  const taken = new Map<string, T[]>();
  let count = 0;
  for (const key of ready) {
    const lane = lanes.get(key)!;
    const together = batchable(lane.items[0]!);
    if (together ? state.batching : count > 0) continue;
    let many = 1;
    if (together) while (many < lane.items.length && count + many < batchMax && batchable(lane.items[many]!)) many += 1;
    taken.set(key, lane.items.splice(0, many));
    lane.running = true;
    ready.delete(key);
    count += many;
    if (!together || count >= batchMax) break;
  }
  return taken;
}

async function run<T extends LaneItem>(state: LanesState<T>, taken: Map<string, T[]>): Promise<void> {
  const items = [...taken.values()].flat();
  const batch = state.batchable(items[0]!);
  state.running += 1;
  if (batch) state.batching = true;
  const answers = await state.work(items);
  state.running -= 1;
  if (batch) state.batching = false;
  const left = (answer: TaskResult) => new Set(items.filter((_, index) => answers[index] === answer));
  const [early, again] = [left('early'), left('again')];
  for (const [key, ofLane] of taken) {
    const lane = state.lanes.get(key)!;
    lane.running = false;
    const back = ofLane.filter((item) => early.has(item) || again.has(item));
    for (const item of back.reverse()) putBack(lane.items, item);
    // An item that arrived meanwhile may be the missing predecessor, or replace it.
    const [head] = lane.items;
    const stalled = head !== undefined && early.has(head) && !moveBaselineUp(lane.items);
    lane.stalledAt = stalled ? Date.now() : null;
    place(state, key, lane);
  }
  if (early.size > 0) sweep(state);
  if (state.running === 0) state.onIdle();
  pump(state);
}

/** Gives up lanes that have stalled too long, and the longest stalled ones when too many items wait. */
function sweep<T extends LaneItem>(state: LanesState<T>): void {
  if (state.sweeper) clearTimeout(state.sweeper);
  state.sweeper = null;
  if (state.stopped) return;
  const stalled = [...state.lanes].filter(([, lane]) => lane.stalledAt !== null && !lane.running);
  stalled.sort(([, a], [, b]) => a.stalledAt! - b.stalledAt!);
  let waiting = stalled.reduce((sum, [, lane]) => sum + lane.items.length, 0);
  for (const [key, lane] of stalled) {
    if (Date.now() - lane.stalledAt! < state.stallMs && waiting <= state.stalledMax) break;
    waiting -= lane.items.length;
    state.lanes.delete(key);
    state.giveUp(lane.items);
  }
  if (waiting > 0) state.sweeper = setTimeout(() => sweep(state), Math.max(20, state.stallMs / 4));
}
