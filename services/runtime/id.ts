import { v5, v7 } from 'uuid';

/** A new UUIDv7: sorts by the time it was made. */
export const newId = (): string => v7();

const namespace = '6f1c1f6e-0d3c-5b1e-9a53-0a4d5b7c2e10';

/** The same UUID for the same text, always: ids of things that must not be made twice. */
export const derivedId = (text: string): string => v5(text, namespace);
