import type { SqlReader, Tx, Watchers } from '@armature/runtime';
import { quantityOverflow, skuUnknown, stockReserved } from './errors.ts';
import type { Allocation, Level, Line } from './reservation.ts';

/** The most units that one SKU can have at one location. */
const onHandMax = 1_000_000_000_000n;

/** Changes the stock of SKUs at locations, writes the movement journal and wakes the watchers of the SKUs. */
export function stockStore(watching: Watchers) {
  return {
    levels: (sql: SqlReader, skus: readonly string[]) => readLevels(sql, skus, ''),

    /** Adds units. A SKU that has no stock at the location gets a row there. Returns the levels at the location. */
    async receive(tx: Tx, locationId: string, lines: readonly Line[]): Promise<Level[]> {
      await tx.execute(
        `insert into stock (sku, location_id, on_hand, reserved, version, updated_at)
         values ${lines.map(() => '(?, ?, ?, 0, 1, utc_timestamp(6))').join(', ')}
         on duplicate key update on_hand = on_hand + values(on_hand), version = version + 1, updated_at = utc_timestamp(6)`,
        lines.flatMap(({ sku, quantity }) => [sku, locationId, quantity]),
      );
      const received = lines.map((line) => ({ ...line, locationId }));
      await insertMovements(tx, 'RECEIVE', null, '', received);
      const skus = skusOf(lines);
      watching.wakeAfter(tx, skus);
      const levels = (await readLevels(tx, skus, '')).filter((level) => level.locationId === locationId);
      const over = levels.find((level) => level.onHand > onHandMax);
      if (over) throw quantityOverflow(over.sku);
      return levels;
    },

    /** Corrects the units of one SKU at one location. Units that are reserved cannot be taken away. */
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
      await insertMovements(tx, 'ADJUST', null, note, [{ sku, locationId, quantity: delta }]);
      watching.wakeAfter(tx, [sku]);
      return { ...level, onHand, version: level.version + 1n };
    },
  };
}

interface LevelRow {
  sku: string;
  location_id: string;
  on_hand: string | number;
  reserved: string | number;
  version: string | number;
}

/** Sorted by SKU and location, which is also the order in which 'for update' locks the rows. */
export async function readLevels(sql: SqlReader, skus: readonly string[], lock: '' | 'for update'): Promise<Level[]> {
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

/**
 * Changes all levels of a reservation in one statement, in the order of the primary key. `perUnit` is what each unit of
 * the reservation adds.
 */
export async function changeLevels(
  tx: Tx,
  watching: Watchers,
  allocations: readonly Allocation[],
  perUnit: { onHand: bigint; reserved: bigint },
): Promise<void> {
  const rows = allocations.map((_, index) =>
    index === 0 ? 'select ? as sku, ? as location_id, ? as quantity' : 'union all select ?, ?, ?',
  );
  await tx.execute(
    `update stock s join (${rows.join(' ')}) d on s.sku = d.sku and s.location_id = d.location_id
     set s.on_hand = s.on_hand + d.quantity * ${perUnit.onHand}, s.reserved = s.reserved + d.quantity * ${perUnit.reserved},
         s.version = s.version + 1, s.updated_at = utc_timestamp(6)`,
    allocations.flatMap(({ sku, locationId, quantity }) => [sku, locationId, Number(quantity)]),
  );
  watching.wakeAfter(tx, skusOf(allocations));
}

export const skusOf = (lines: readonly Line[]): string[] => [...new Set(lines.map(({ sku }) => sku))];

/** Adds rows to the journal, from which every level can be computed. */
export async function insertMovements(
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
