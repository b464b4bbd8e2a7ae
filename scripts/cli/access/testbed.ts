import { effectiveAccessOf } from './effective-access.ts';
import type { Operation } from './operations.ts';

/** A method of a contract that tests write themselves. */
export const method = (name: string, permission: string, owner = ''): Operation => ({
  kind: 'method',
  name: `shop.v1.Shop/${name}`,
  permission,
  owner,
  audit: false,
});

export const event = (name: string, permission: string): Operation => ({
  kind: 'event',
  name: `shop.v1.${name}`,
  permission,
  owner: '',
  audit: false,
});

/** What rows, one a string, make of all principals. */
export const effectiveAccessOn = (...rows: readonly string[]) => effectiveAccessOf(rows.join('\n'), 'test.csv');
