import { v5, v7 } from 'uuid';

/** Makes a UUIDv7: ids sort by the time they were made. */
export const newId = (): string => v7();

/** Returns an id that sorts before every UUIDv7 of this time or later, and after all earlier ones. */
export function oldestIdOf(at: Date): string {
  const hex = at.getTime().toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
}

const namespace = '6f1c1f6e-0d3c-5b1e-9a53-0a4d5b7c2e10';

/** Returns the same UUID for the same text, always: ids of things that must not be made twice. */
export const derivedId = (text: string): string => v5(text, namespace);
