/** The failures of one outage, which is tried again and again: each is logged once. */
export interface Outage {
  /** Whether the failure is new in this outage. */
  isNew(error: unknown): boolean;
  over(): void;
}

/** Texts may name ids, so that they differ without end. */
const toldMax = 10;

export function openOutage(): Outage {
  const told = new Set<string>();
  return {
    isNew(error) {
      const text = String(error);
      if (told.has(text) || told.size >= toldMax) return false;
      told.add(text);
      return true;
    },
    over: () => told.clear(),
  };
}
