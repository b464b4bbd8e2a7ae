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
  type Watchers,
} from '@armature/runtime';
import {
  reservationExists,
  reservationExpired,
  reservationNotFound,
  reservationReleased,
  skuUnknown,
  stockInsufficient,
} from './errors.ts';
import {
  type Act,
  type Allocation,
  allocate,
  type Line,
  type Reservation,
  type State,
  type StockEffect,
  transition,
} from './reservation.ts';
import { changeLevels, insertMovements, readLevels, skusOf } from './stock-store.ts';

const expireBatch = 100;

/** Reserves stock for orders, and commits, releases and expires these reservations. */
export function reservationStore(watching: Watchers, reservationTtlMs: number) {
  return {
    /** Reserves every line or none. `lines` are merged and sorted by SKU. */
    async reserve(
      tx: Tx,
      request: { reservationId: string; orderId: string; lines: readonly Line[] },
    ): Promise<Reservation> {
      const { reservationId, orderId, lines } = request;
      if (!(await insertReservation(tx, reservationId, orderId, 'HELD', reservationTtlMs))) {
        const existing = await readReservation(tx, reservationId, '');
        throw (existing?.state === 'RELEASED' ? reservationReleased : reservationExists)(reservationId);
      }
      const allocations = await allocateLocked(tx, lines);
      await insertAllocations(tx, reservationId, allocations);
      await changeLevels(tx, watching, allocations, { onHand: 0n, reserved: 1n });
      emit(tx, StockReservedEvent, { reservationId, orderId, allocations }, 1n);
      const now = new Date();
      const expiresAt = new Date(now.getTime() + reservationTtlMs);
      const times = { expiresAt, createdAt: now, updatedAt: now };
      return { reservationId, orderId, state: 'HELD', allocations, ...times, version: 1n };
    },

    /** Throws RESERVATION_NOT_FOUND. */
    async reservation(sql: SqlReader, reservationId: string): Promise<Reservation> {
      const reservation = await readReservation(sql, reservationId, '');
      if (!reservation) throw reservationNotFound(reservationId);
      return reservation;
    },

    /** Throws RESERVATION_NOT_FOUND, RESERVATION_RELEASED and RESERVATION_EXPIRED. */
    async commit(tx: Tx, reservationId: string): Promise<Reservation> {
      const reservation = await readReservation(tx, reservationId, 'for update');
      if (!reservation) throw reservationNotFound(reservationId);
      return apply(tx, watching, reservation, 'commit');
    },

    /** Where no such reservation exists yet, records its release, so that a late ReserveStock is refused. */
    async release(tx: Tx, reservationId: string, orderId: string): Promise<Reservation> {
      const existing = await readReservation(tx, reservationId, 'for update');
      if (existing) return apply(tx, watching, existing, 'release');
      // An insert that fails leaves a shared lock on the row. Two transactions that then lock the row for update
      // deadlock. So this transaction starts again, and its first statement finds the row.
      if (!(await insertReservation(tx, reservationId, orderId, 'RELEASED', reservationTtlMs))) {
        throw new RestartTransaction(`reservation ${reservationId} was made by another transaction`);
      }
      const released = await readReservation(tx, reservationId, '');
      if (!released) throw reservationNotFound(reservationId);
      emitChange(tx, released);
      return released;
    },

    /** Expires reservations whose time is over, at most a batch. Returns how many. */
    expireReservations: (db: Database) => (call: CallContext) =>
      db.transaction(call, async (tx) => {
        const due = await tx.query<{ reservation_id: string }>(
          `select reservation_id from reservation where state = 'HELD' and expires_at < utc_timestamp(6)
           order by expires_at limit ${expireBatch} for update skip locked`,
        );
        for (const { reservation_id } of due) {
          const reservation = await readReservation(tx, reservation_id, 'for update');
          if (reservation) await apply(tx, watching, reservation, 'expire');
        }
        return due.length;
      }),
  };
}

/** Applies a transition to a reservation whose row is locked. Throws the refusal of the transition. */
async function apply(tx: Tx, watching: Watchers, reservation: Reservation, act: Act): Promise<Reservation> {
  const step = transition(act, reservation.state);
  if (step.kind === 'same') return reservation;
  if (step.kind === 'refuse') {
    throw (step.because === 'released' ? reservationReleased : reservationExpired)(reservation.reservationId);
  }
  await applyEffect(tx, watching, reservation, step.effect);
  await tx.execute(
    'update reservation set state = ?, version = version + 1, updated_at = utc_timestamp(6) where reservation_id = ?',
    [step.to, reservation.reservationId],
  );
  const changed = { ...reservation, state: step.to, version: reservation.version + 1n, updatedAt: new Date() };
  emitChange(tx, changed);
  return changed;
}

async function applyEffect(
  tx: Tx,
  watching: Watchers,
  { allocations, reservationId }: Reservation,
  effect: StockEffect,
): Promise<void> {
  if (allocations.length === 0) return;
  await readLevels(tx, skusOf(allocations), 'for update');
  await changeLevels(tx, watching, allocations, effect);
  if (effect.movement) await insertMovements(tx, effect.movement, reservationId, '', allocations);
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

/** Locks the levels of the lines and takes every line from them. Throws SKU_UNKNOWN and STOCK_INSUFFICIENT. */
async function allocateLocked(tx: Tx, lines: readonly Line[]): Promise<Allocation[]> {
  // Rows are locked in the order of the primary key: two orders that share SKUs wait for each other
  // instead of deadlocking.
  const levels = await readLevels(tx, skusOf(lines), 'for update');
  const { allocations, short, unknown } = allocate(lines, levels);
  if (unknown.length > 0) throw skuUnknown(unknown);
  if (short.length > 0) throw stockInsufficient(short);
  return allocations;
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

/** Returns false when the id is in use. Waits for a transaction that is inserting the same id. */
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

async function insertAllocations(tx: Tx, reservationId: string, allocations: readonly Allocation[]): Promise<void> {
  await tx.execute(
    `insert into reservation_line (reservation_id, sku, location_id, quantity)
     values ${allocations.map(() => '(?, ?, ?, ?)').join(', ')}`,
    allocations.flatMap(({ sku, locationId, quantity }) => [reservationId, sku, locationId, quantity]),
  );
}
