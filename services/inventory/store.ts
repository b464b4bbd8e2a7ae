import {
  ReservationCommittedEvent,
  ReservationExpiredEvent,
  ReservationReleasedEvent,
  ReservationReturnedEvent,
  StockReservedEvent,
} from '@armature/proto/inventory/v1/contract.ts';
import {
  type CallContext,
  type Database,
  emit,
  isDuplicateKey,
  RestartTransaction,
  type SqlReader,
  type Tx,
  utcDate,
  watchers,
} from '@armature/runtime';
import {
  quantityOverflow,
  reservationExists,
  reservationExpired,
  reservationNotFound,
  reservationReleased,
  skuUnknown,
  stockInsufficient,
  stockReserved,
} from './errors.ts';
import {
  type Allocation,
  allocate,
  type Level,
  type Line,
  type Reservation,
  type State,
  type StockEffect,
  transition,
} from './reservation.ts';

/** No level ever counts more than this. */
const onHandMax = 1_000_000_000_000n;
const watchPollMs = 1_000;
const expireBatch = 100;

export type InventoryStore = ReturnType<typeof inventoryStore>;

export function inventoryStore({ reservationTtlMs }: { reservationTtlMs: number }) {
  const watching = watchers(watchPollMs);
  const move = async (tx: Tx, reservation: Reservation, act: 'commit' | 'release' | 'expire'): Promise<Reservation> => {
    const step = transition(act, reservation.state);
    if (step.kind === 'same') return reservation;
    if (step.kind === 'refuse') {
      throw (step.because === 'released' ? reservationReleased : reservationExpired)(reservation.reservationId);
    }
    await applyEffect(tx, reservation, step.effect);
    await tx.execute(
      'update reservation set state = ?, version = version + 1, updated_at = utc_timestamp(6) where reservation_id = ?',
      [step.to, reservation.reservationId],
    );
    watching.wakeAfter(
      tx,
      reservation.allocations.map((allocation) => allocation.sku),
    );
    const moved = { ...reservation, state: step.to, version: reservation.version + 1n, updatedAt: new Date() };
    emitChange(tx, moved);
    return moved;
  };

  return {
    levels: (sql: SqlReader, skus: readonly string[]) => readLevels(sql, skus, ''),

    /** Adds units; what was not known before becomes known. */
    async receive(tx: Tx, locationId: string, lines: readonly Line[]): Promise<Level[]> {
      await tx.execute(
        `insert into stock (sku, location_id, on_hand, reserved, version, updated_at)
         values ${lines.map(() => '(?, ?, ?, 0, 1, utc_timestamp(6))').join(', ')}
         on duplicate key update on_hand = on_hand + values(on_hand), version = version + 1, updated_at = utc_timestamp(6)`,
        lines.flatMap(({ sku, quantity }) => [sku, locationId, quantity]),
      );
      await journal(
        tx,
        'RECEIVE',
        null,
        '',
        lines.map((line) => ({ ...line, locationId })),
      );
      watching.wakeAfter(
        tx,
        lines.map((line) => line.sku),
      );
      const levels = await readLevels(
        tx,
        lines.map((line) => line.sku),
        '',
      );
      const here = levels.filter((level) => level.locationId === locationId);
      const over = here.find((level) => level.onHand > onHandMax);
      if (over) throw quantityOverflow(over.sku);
      return here;
    },

    async adjust(tx: Tx, change: { sku: string; locationId: string; delta: bigint; note: string }): Promise<Level> {
      const { sku, locationId, delta, note } = change;
      const level = (await readLevels(tx, [sku], 'for update')).find((one) => one.locationId === locationId);
      if (!level) throw skuUnknown([sku]);
      const onHand = level.onHand + delta;
      if (onHand < level.reserved) throw stockReserved(sku, level.reserved);
      if (onHand > onHandMax) throw quantityOverflow(sku);
      await tx.execute(
        'update stock set on_hand = ?, version = version + 1, updated_at = utc_timestamp(6) where sku = ? and location_id = ?',
        [onHand, sku, locationId],
      );
      await journal(tx, 'ADJUST', null, note, [{ sku, locationId, quantity: delta }]);
      watching.wakeAfter(tx, [sku]);
      return { ...level, onHand, version: level.version + 1n };
    },

    /** Holds every line or none. `lines` are merged and sorted by SKU. */
    async reserve(
      tx: Tx,
      wish: { reservationId: string; orderId: string; lines: readonly Line[] },
    ): Promise<Reservation> {
      const { reservationId, orderId } = wish;
      if (!(await insertReservation(tx, reservationId, orderId, 'HELD', reservationTtlMs))) {
        const existing = await readReservation(tx, reservationId, '');
        throw (existing?.state === 'RELEASED' ? reservationReleased : reservationExists)(reservationId);
      }
      // Rows are locked in the order of the primary key: two orders that share SKUs wait for each other
      // instead of deadlocking.
      const levels = await readLevels(
        tx,
        wish.lines.map((line) => line.sku),
        'for update',
      );
      const { allocations, short, unknown } = allocate(wish.lines, levels);
      if (unknown.length > 0) throw skuUnknown(unknown);
      if (short.length > 0) throw stockInsufficient(short);
      await tx.execute(
        `insert into reservation_line (reservation_id, sku, location_id, quantity)
         values ${allocations.map(() => '(?, ?, ?, ?)').join(', ')}`,
        allocations.flatMap(({ sku, locationId, quantity }) => [reservationId, sku, locationId, quantity]),
      );
      await changeStock(tx, allocations, 0n, 1n);
      watching.wakeAfter(
        tx,
        allocations.map((allocation) => allocation.sku),
      );
      const now = new Date();
      emit(tx, StockReservedEvent, { reservationId, orderId, allocations }, 1n);
      const expiresAt = new Date(now.getTime() + reservationTtlMs);
      return {
        reservationId,
        orderId,
        state: 'HELD',
        allocations,
        expiresAt,
        createdAt: now,
        updatedAt: now,
        version: 1n,
      };
    },

    async reservation(sql: SqlReader, reservationId: string): Promise<Reservation> {
      const reservation = await readReservation(sql, reservationId, '');
      if (!reservation) throw reservationNotFound(reservationId);
      return reservation;
    },

    async commit(tx: Tx, reservationId: string): Promise<Reservation> {
      const reservation = await readReservation(tx, reservationId, 'for update');
      if (!reservation) throw reservationNotFound(reservationId);
      return move(tx, reservation, 'commit');
    },

    /** Also records the release of a reservation that is not there yet, so that a late ReserveStock finds it. */
    async release(tx: Tx, reservationId: string, orderId: string): Promise<Reservation> {
      const existing = await readReservation(tx, reservationId, 'for update');
      if (existing) return move(tx, existing, 'release');
      // A failed insert holds a shared lock of the row. Two transactions that lock the row after it
      // deadlock, so this one begins again, and finds the row.
      if (!(await insertReservation(tx, reservationId, orderId, 'RELEASED', reservationTtlMs))) {
        throw new RestartTransaction(`reservation ${reservationId} came into use meanwhile`);
      }
      const released = await readReservation(tx, reservationId, '');
      if (!released) throw reservationNotFound(reservationId);
      emitChange(tx, released);
      return released;
    },

    /** Gives back what was held too long, a batch at a time. */
    expireReservations: (db: Database) => (call: CallContext) =>
      db.transaction(call, async (tx) => {
        const due = await tx.query<{ reservation_id: string }>(
          `select reservation_id from reservation where state = 'HELD' and expires_at < utc_timestamp(6)
           order by expires_at limit ${expireBatch} for update skip locked`,
        );
        for (const { reservation_id } of due) {
          const reservation = await readReservation(tx, reservation_id, 'for update');
          if (reservation) await move(tx, reservation, 'expire');
        }
        return due.length;
      }),

    /** Yields at once, then whenever one of the SKUs may have changed. */
    changes: watching.changes,
  };
}

interface LevelRow {
  sku: string;
  location_id: string;
  on_hand: string | number;
  reserved: string | number;
  version: string | number;
}

async function readLevels(sql: SqlReader, skus: readonly string[], lock: '' | 'for update'): Promise<Level[]> {
  const rows = await sql.query<LevelRow>(
    `select sku, location_id, on_hand, reserved, version from stock where sku in (?) order by sku, location_id ${lock}`,
    [skus],
  );
  return rows.map((row) => ({
    sku: row.sku,
    locationId: row.location_id,
    onHand: BigInt(row.on_hand),
    reserved: BigInt(row.reserved),
    version: BigInt(row.version),
  }));
}

interface ReservationRow {
  reservation_id: string;
  order_id: string;
  state: State;
  expires_at: string;
  created_at: string;
  updated_at: string;
  version: string | number;
  sku: string | null;
  location_id: string | null;
  quantity: string | number | null;
}

async function readReservation(
  sql: SqlReader,
  reservationId: string,
  lock: '' | 'for update',
): Promise<Reservation | null> {
  const rows = await sql.query<ReservationRow>(
    `select r.reservation_id, r.order_id, r.state, r.expires_at, r.created_at, r.updated_at, r.version,
            l.sku, l.location_id, l.quantity
     from reservation r left join reservation_line l on l.reservation_id = r.reservation_id
     where r.reservation_id = ? order by l.sku, l.location_id ${lock}`,
    [reservationId],
  );
  const [first] = rows;
  if (!first) return null;
  return {
    reservationId: first.reservation_id,
    orderId: first.order_id,
    state: first.state,
    expiresAt: utcDate(first.expires_at),
    createdAt: utcDate(first.created_at),
    updatedAt: utcDate(first.updated_at),
    version: BigInt(first.version),
    allocations: rows.flatMap(({ sku, location_id, quantity }) =>
      sku && location_id ? [{ sku, locationId: location_id, quantity: BigInt(quantity ?? 0) }] : [],
    ),
  };
}

/** False when the id is taken. Waits for a transaction that is just taking it. */
async function insertReservation(tx: Tx, id: string, orderId: string, state: State, ttlMs: number): Promise<boolean> {
  try {
    await tx.execute(
      `insert into reservation (reservation_id, order_id, state, expires_at, created_at, updated_at, version)
       values (?, ?, ?, utc_timestamp(6) + interval ? microsecond, utc_timestamp(6), utc_timestamp(6), 1)`,
      [id, orderId, state, ttlMs * 1_000],
    );
    return true;
  } catch (error) {
    if (isDuplicateKey(error)) return false;
    throw error;
  }
}

/** Changes all levels of a reservation in one statement, in the order of the primary key. */
async function changeStock(
  tx: Tx,
  allocations: readonly Allocation[],
  onHand: bigint,
  reserved: bigint,
): Promise<void> {
  const rows = allocations.map((_, index) =>
    index === 0 ? 'select ? as sku, ? as location_id, ? as quantity' : 'union all select ?, ?, ?',
  );
  await tx.execute(
    `update stock s join (${rows.join(' ')}) d on s.sku = d.sku and s.location_id = d.location_id
     set s.on_hand = s.on_hand + d.quantity * ${onHand}, s.reserved = s.reserved + d.quantity * ${reserved},
         s.version = s.version + 1, s.updated_at = utc_timestamp(6)`,
    allocations.flatMap(({ sku, locationId, quantity }) => [sku, locationId, Number(quantity)]),
  );
}

async function applyEffect(tx: Tx, reservation: Reservation, effect: StockEffect): Promise<void> {
  const { allocations, reservationId } = reservation;
  if (allocations.length === 0) return;
  await readLevels(tx, [...new Set(allocations.map((allocation) => allocation.sku))], 'for update');
  await changeStock(tx, allocations, effect.onHand, effect.reserved);
  if (effect.movement) await journal(tx, effect.movement, reservationId, '', allocations);
}

async function journal(
  tx: Tx,
  kind: 'RECEIVE' | 'ADJUST' | 'SHIP' | 'RETURN',
  reservationId: string | null,
  note: string,
  moved: readonly Allocation[],
): Promise<void> {
  await tx.execute(
    `insert into movement (sku, location_id, kind, quantity, reservation_id, note, created_at)
     values ${moved.map(() => '(?, ?, ?, ?, ?, ?, utc_timestamp(6))').join(', ')}`,
    moved.flatMap(({ sku, locationId, quantity }) => [sku, locationId, kind, quantity, reservationId, note]),
  );
}

const changeEvents = {
  COMMITTED: ReservationCommittedEvent,
  RELEASED: ReservationReleasedEvent,
  EXPIRED: ReservationExpiredEvent,
  RETURNED: ReservationReturnedEvent,
} as const;

function emitChange(tx: Tx, { reservationId, orderId, state, version }: Reservation): void {
  if (state !== 'HELD') emit(tx, changeEvents[state], { reservationId, orderId }, version);
}
