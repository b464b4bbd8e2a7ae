import { globSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { repository } from '../devmesh/state.ts';

/** Files of which the short tier has a smaller representative. */
const longOnly = [
  // The crash test runs the same stories, under kills.
  'test/verification/crash/stories.test.ts',
  // The races of stock and payments represent the explorer; orders/cancellation.ts races cancellations with refunds.
  'test/verification/races/orders.test.ts',
  // slow-acquirer.test.ts and crash/smoke.test.ts have services that are away while orders are under way.
  'test/e2e/outage.test.ts',
  // authz/enforcement.test.ts and policy-follower.test.ts follow, keep and lose a policy in one process.
  'test/conformance/policy.test.ts',
  // The tests of servers and of faults use private servers.
  'test/support/own-servers.test.ts',
  // attacks.test.ts has many sign-ins at once, and counts them.
  'services/identity/load.test.ts',
  // Every test of a service uses this support.
  'test/support/service.test.ts',
  'test/e2e/idle.test.ts',
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
