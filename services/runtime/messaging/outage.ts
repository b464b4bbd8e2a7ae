/** The failures of one outage, during which retries continue: each is logged once. */
export interface Outage {
  /** Whether the failure is new in this outage. */
  isNew(error: unknown): boolean;
  over(): void;
}

/** Messages may contain ids, so the number of different ones is unlimited. */
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
