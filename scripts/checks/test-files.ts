import { globSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { repository } from '../devmesh/state.ts';

/** Files of which the short tier has a smaller representative. */
const longOnly = [
  // The crash test runs the same stories, under kills.
  'test/verification/crash/stories.test.ts',
  // The races of stock and payments represent the explorer; cancellation.test.ts races cancellations with refunds.
  'test/verification/races/orders.test.ts',
];

/**
 * The test files that the arguments name, or all. `--without` leaves out folders of these names, separated by commas.
 * The short tier has no fault injection, which waits for minutes, and no file of `longOnly`.
 */
export function testFiles(args: readonly string[], { long }: { long: boolean }): string[] {
  const options = { without: { type: 'string', default: '' } } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  if (positionals.length > 0) return positionals;
  const without = [...values.without.split(','), ...(long ? [] : ['faults'])];
  const skipped = ['node_modules', '.tap', 'dist', 'gen', ...without];
  return globSync('**/*.test.ts', {
    cwd: repository,
    exclude: (name) => skipped.includes(name) || name.startsWith('.run'),
  })
    .filter((file) => long || !longOnly.includes(file))
    .sort();
}
