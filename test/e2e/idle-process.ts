/**
 * Starts the whole mesh, leaves it alone for a while, and prints what each service weighs, as JSON. It is a
 * process of its own because the test runner loads itself into every Node child of a test.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openShop } from './shop.ts';

/** How long the mesh gets no calls before memory is read. */
const idleMs = 6_000;

/** Resident memory by the kernel, in megabytes of 1024 × 1024 bytes as ps and top use them. */
function residentMegabytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (!match) throw new Error(`/proc/${pid}/status tells no VmRSS`);
  return Number(match[1]) / 1024;
}

const undo: (() => unknown)[] = [];
try {
  const shop = await openShop({ teardown: (step) => undo.unshift(step) });
  await sleep(idleMs);
  const table = Object.values(shop.mesh).map(({ name, pid }) => ({ name, megabytes: residentMegabytes(pid) }));
  console.log(JSON.stringify(table));
} finally {
  for (const step of undo) await step();
}
