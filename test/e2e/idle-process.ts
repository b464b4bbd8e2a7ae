/**
 * Starts the whole mesh, leaves it alone for a while, and prints what each service weighs, as JSON. It is a
 * process of its own because the test runner loads itself into every Node child of a test.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { residentMebibytes } from '../support/resident-memory.ts';
import { openShop } from './shop.ts';

/** How long the mesh gets no calls before memory is read. */
const idleMs = 6_000;

const undo: (() => unknown)[] = [];
try {
  const shop = await openShop({ teardown: (step) => undo.unshift(step) });
  await sleep(idleMs);
  const table = Object.values(shop.mesh).map(({ name, pid }) => ({ name, megabytes: residentMebibytes(pid) }));
  console.log(JSON.stringify(table));
} finally {
  for (const step of undo) await step();
}
