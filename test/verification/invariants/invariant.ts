import type { World } from './world.ts';

/** One thing that must hold, whatever has died. */
export interface Invariant {
  /** Its number in the list of docs/reliability.md. */
  readonly id: string;
  readonly name: string;
  /** What the shop has done to somebody when it does not hold. */
  readonly meaning: string;
  /** What breaks it; nothing may. */
  find(world: World): Promise<readonly unknown[]>;
}

/** An invariant that is one query over all schemas. `{grace}` in it is the world's grace, in seconds. */
export function bySql(id: string, name: string, meaning: string, sql: string): Invariant {
  return {
    id,
    name,
    meaning,
    find: (world) => world.query(sql.replaceAll('{grace}', String(world.graceSeconds))),
  };
}

/** One query for every service's schema, which `{each}` stands for. */
export function inEachSchema(id: string, name: string, meaning: string, sql: string): Invariant {
  return {
    id,
    name,
    meaning,
    async find(world) {
      const found: unknown[] = [];
      for (const service of world.services) {
        const text = sql.replaceAll('{each}', `{${service}}`).replaceAll('{grace}', String(world.graceSeconds));
        found.push(...(await world.query<object>(text)).map((row) => ({ service, ...row })));
      }
      return found;
    },
  };
}
