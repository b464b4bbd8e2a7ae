import type { ShopData } from './shop-data.ts';

/** A condition that must hold at all times, whatever process was killed. */
export interface Invariant {
  /** Its number in the list of docs/reliability.md. */
  readonly id: string;
  readonly name: string;
  /** What it means for a customer or for the shop if the invariant does not hold. */
  readonly meaning: string;
  /** Returns the rows that break the invariant. */
  find(shopData: ShopData): Promise<readonly unknown[]>;
}

/** An invariant that is one query over all schemas. `{grace}` in the query is replaced by `graceSeconds`. */
export function bySql(id: string, name: string, meaning: string, sql: string): Invariant {
  return {
    id,
    name,
    meaning,
    find: (shopData) => shopData.query(sql.replaceAll('{grace}', String(shopData.graceSeconds))),
  };
}

/** An invariant that is one query per service, in which `{each}` stands for the schema. */
export function inEachSchema(id: string, name: string, meaning: string, sql: string): Invariant {
  return {
    id,
    name,
    meaning,
    async find(shopData) {
      const found: unknown[] = [];
      for (const service of shopData.services) {
        const text = sql.replaceAll('{each}', `{${service}}`).replaceAll('{grace}', String(shopData.graceSeconds));
        found.push(...(await shopData.query<object>(text)).map((row) => ({ service, ...row })));
      }
      return found;
    },
  };
}
