import type { Door } from './doors.ts';
import { standingOf } from './standing.ts';

/** A method of a contract that tests write themselves. */
export const method = (name: string, permission: string, owner = ''): Door => ({
  kind: 'method',
  name: `shop.v1.Shop/${name}`,
  permission,
  owner,
  audit: false,
});

export const event = (name: string, permission: string): Door => ({
  kind: 'event',
  name: `shop.v1.${name}`,
  permission,
  owner: '',
  audit: false,
});

/** What rows, one a string, make of all principals. */
export const standingOn = (...rows: readonly string[]) => standingOf(rows.join('\n'), 'test.csv');
